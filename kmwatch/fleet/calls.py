"""The call sites of synthetic captures, with the names that kernels have and sizes near theirs."""

from dataclasses import dataclass

from kmwatch.schema import Context, Kind


@dataclass(frozen=True)
class Call:
    """A call site and how it asks.

    sizes: smallest and largest request in bytes, of what is not a cache's. order: of pages. gfp: flags by name.
    share: its events beside the others'. freed: the function that releases; "" where nobody is seen to.
    lifetime: mean seconds until then. roles: the hosts that have it; all where it names none.
    """

    kind: Kind
    function: str
    module: str = ""
    sizes: tuple[int, int] = (0, 0)
    cache: str = ""
    order: int = 0
    gfp: str = "GFP_KERNEL"
    context: int = 0
    share: int = 5
    freed: str = ""
    lifetime: float = 0.1
    roles: tuple[str, ...] = ()


_SERVING = ("web", "cache")

WASTES = Call(Kind.KMALLOC, "proc_sys_call_handler", sizes=(940, 1000), share=6, freed="kvfree", lifetime=0.01)
"""Where a planted host wastes 20 times as much, since it asks for TOO_LARGE."""
TOO_LARGE = (1040, 1130)
FAILS = Call(
    Kind.CACHE_ALLOC,
    "dst_alloc",
    cache="ip_dst_cache",
    gfp="GFP_ATOMIC",
    context=int(Context.SOFTIRQ),
    share=12,
    freed="dst_destroy",
)
"""Where a planted host fails in atomic context."""
SLEEPS = Call(Kind.KMALLOC, "usb_alloc_urb", "usbcore", (184, 190), share=6, freed="urb_destroy", lifetime=0.01)
"""What a planted host calls in a soft interrupt."""
GREW = Call(
    Kind.KMALLOC,
    "__alloc_skb",
    sizes=(704, 832),
    gfp="GFP_ATOMIC|__GFP_NOWARN",
    context=int(Context.SOFTIRQ),
    share=12,
    freed="skb_free_head",
    lifetime=0.01,
)
"""What wastes 40 % more with the newest kernel, where it asks for so much less of the same size class."""
GREW_BY = 0.4
VERSIONED = Call(
    Kind.PAGE_ALLOC,
    "ice_alloc_mapped_page",
    "ice",
    gfp="GFP_ATOMIC|__GFP_COMP",
    context=int(Context.SOFTIRQ),
    share=9,
    roles=_SERVING,
)
"""What fails more with one version of its module."""

CALLS = (
    WASTES,
    FAILS,
    SLEEPS,
    GREW,
    VERSIONED,
    Call(Kind.KMALLOC, "alloc_pipe_info", sizes=(168, 168), gfp="GFP_KERNEL_ACCOUNT", freed="free_pipe_info"),
    Call(Kind.KMALLOC, "kernfs_fop_open", sizes=(168, 168), share=6, freed="kernfs_fop_release"),
    Call(Kind.KMALLOC, "load_elf_phdrs", sizes=(616, 728), share=6, freed="load_elf_binary", lifetime=0.001),
    Call(Kind.KMALLOC, "ep_alloc", sizes=(184, 184), share=4, freed="ep_free", lifetime=4.0),
    Call(Kind.KMALLOC, "single_open", sizes=(32, 32), share=8, freed="single_release", lifetime=0.002),
    Call(Kind.KMALLOC, "alloc_fdtable", sizes=(56, 64), gfp="GFP_KERNEL_ACCOUNT", freed="free_fdtable_rcu"),
    Call(Kind.KMALLOC, "security_prepare_creds", sizes=(24, 24), share=7, freed="security_cred_free", lifetime=0.5),
    Call(Kind.KMALLOC, "load_msg", sizes=(300, 1000), gfp="GFP_KERNEL_ACCOUNT", freed="free_msg"),
    Call(
        Kind.KMALLOC,
        "tty_buffer_alloc",
        sizes=(280, 300),
        gfp="GFP_ATOMIC|__GFP_NOWARN",
        share=4,
        freed="tty_buffer_free",
    ),
    Call(Kind.KMALLOC, "io_alloc_async_data", sizes=(224, 248), roles=("db", "cache"), freed="io_free_batch_list"),
    Call(Kind.KMALLOC, "ext4_htree_store_dirent", "ext4", (52, 96), share=6, freed="free_rb_tree_fname"),
    Call(Kind.KMALLOC, "ext4_find_extent", "ext4", (96, 192), gfp="GFP_NOFS", share=6, freed="ext4_free_ext_path"),
    Call(
        Kind.KMALLOC,
        "xlog_cil_alloc_shadow_bufs",
        "xfs",
        (500, 900),
        gfp="GFP_NOFS",
        roles=("db",),
        freed="xlog_cil_free_logvec",
    ),
    Call(
        Kind.KMALLOC, "scsi_alloc_sgtables", "scsi_mod", (992, 1024), gfp="GFP_ATOMIC", context=int(Context.PREEMPT_OFF)
    ),
    Call(
        Kind.KMALLOC,
        "mpt3sas_base_get_smid",
        "mpt3sas",
        (64, 64),
        gfp="GFP_ATOMIC",
        context=int(Context.HARDIRQ),
        roles=("db", "build"),
    ),
    Call(
        Kind.CACHE_ALLOC,
        "__d_alloc",
        cache="dentry",
        gfp="GFP_KERNEL|__GFP_RECLAIMABLE",
        share=14,
        freed="__d_free",
        lifetime=3.0,
    ),
    Call(Kind.CACHE_ALLOC, "alloc_empty_file", cache="filp", gfp="GFP_KERNEL_ACCOUNT", share=14, freed="file_free_rcu"),
    Call(Kind.CACHE_ALLOC, "getname_flags", cache="names_cache", share=16, freed="putname", lifetime=0.001),
    Call(
        Kind.CACHE_ALLOC,
        "vm_area_dup",
        cache="vm_area_struct",
        gfp="GFP_KERNEL_ACCOUNT",
        share=10,
        freed="vm_area_free",
    ),
    Call(
        Kind.CACHE_ALLOC,
        "vm_area_alloc",
        cache="vm_area_struct",
        gfp="GFP_KERNEL_ACCOUNT",
        share=7,
        freed="vm_area_free",
    ),
    Call(Kind.CACHE_ALLOC, "anon_vma_fork", cache="anon_vma_chain", share=8, freed="unlink_anon_vmas"),
    Call(Kind.CACHE_ALLOC, "prepare_creds", cache="cred_jar", share=7, freed="put_cred_rcu", lifetime=0.5),
    Call(
        Kind.CACHE_ALLOC, "dup_task_struct", cache="task_struct", gfp="GFP_KERNEL_ACCOUNT", share=4, freed="free_task"
    ),
    Call(Kind.CACHE_ALLOC, "mm_alloc", cache="mm_struct", gfp="GFP_KERNEL_ACCOUNT", share=4, freed="__mmdrop"),
    Call(
        Kind.CACHE_ALLOC,
        "copy_signal",
        cache="signal_cache",
        gfp="GFP_KERNEL_ACCOUNT",
        share=4,
        freed="__put_task_struct",
    ),
    Call(
        Kind.CACHE_ALLOC,
        "skb_clone",
        cache="skbuff_head_cache",
        gfp="GFP_ATOMIC",
        context=int(Context.SOFTIRQ),
        share=12,
        freed="kfree_skbmem",
        lifetime=0.005,
    ),
    Call(
        Kind.CACHE_ALLOC,
        "sk_prot_alloc",
        cache="TCP",
        gfp="GFP_KERNEL_ACCOUNT",
        roles=_SERVING,
        share=6,
        freed="sk_destruct",
        lifetime=1.0,
    ),
    Call(
        Kind.CACHE_ALLOC,
        "sock_alloc_inode",
        cache="sock_inode_cache",
        gfp="GFP_KERNEL_ACCOUNT",
        freed="sock_free_inode",
    ),
    Call(
        Kind.CACHE_ALLOC,
        "init_conntrack",
        "nf_conntrack",
        cache="nf_conntrack",
        gfp="GFP_ATOMIC",
        context=int(Context.SOFTIRQ),
        roles=_SERVING,
        freed="nf_conntrack_free",
    ),
    Call(Kind.CACHE_ALLOC, "alloc_buffer_head", cache="buffer_head", gfp="GFP_NOFS|__GFP_ACCOUNT", share=6),
    Call(
        Kind.CACHE_ALLOC,
        "jbd2__journal_start",
        "jbd2",
        cache="jbd2_journal_handle",
        gfp="GFP_NOFS",
        share=6,
        freed="jbd2_journal_stop",
        lifetime=0.001,
    ),
    Call(Kind.CACHE_ALLOC, "ext4_alloc_inode", "ext4", cache="ext4_inode_cache", gfp="GFP_NOFS|__GFP_RECLAIMABLE"),
    Call(
        Kind.CACHE_ALLOC,
        "xas_alloc",
        cache="radix_tree_node",
        gfp="GFP_NOWAIT|__GFP_ACCOUNT",
        context=int(Context.PREEMPT_OFF),
        share=6,
    ),
    Call(Kind.CACHE_ALLOC, "__kernfs_new_node", cache="kernfs_node_cache", share=4, freed="kernfs_put"),
    Call(
        Kind.CACHE_ALLOC,
        "proc_alloc_inode",
        cache="proc_inode_cache",
        gfp="GFP_KERNEL|__GFP_RECLAIMABLE",
        freed="proc_free_inode",
    ),
    Call(Kind.CACHE_ALLOC, "xfs_inode_alloc", "xfs", cache="xfs_inode", gfp="GFP_KERNEL|__GFP_NOFAIL", roles=("db",)),
    Call(
        Kind.CACHE_ALLOC,
        "zio_create",
        "zfs",
        cache="zio_cache",
        roles=("db",),
        share=9,
        freed="zio_destroy",
        lifetime=0.05,
    ),
    Call(
        Kind.CACHE_ALLOC,
        "alloc_extent_map",
        "btrfs",
        cache="btrfs_extent_map",
        gfp="GFP_NOFS",
        roles=("build",),
        share=6,
        freed="free_extent_map",
    ),
    Call(
        Kind.PAGE_ALLOC,
        "alloc_anon_folio",
        gfp="GFP_HIGHUSER_MOVABLE|__GFP_ZERO|__GFP_COMP",
        share=16,
        freed="free_pages_and_swap_cache",
        lifetime=1.0,
    ),
    Call(Kind.PAGE_ALLOC, "__filemap_get_folio", gfp="GFP_HIGHUSER_MOVABLE|__GFP_COMP", share=10),
    Call(
        Kind.PAGE_ALLOC,
        "page_cache_ra_unbounded",
        order=2,
        gfp="GFP_HIGHUSER_MOVABLE|__GFP_NORETRY|__GFP_NOWARN|__GFP_COMP",
        share=6,
    ),
    Call(Kind.PAGE_ALLOC, "pte_alloc_one", gfp="GFP_KERNEL_ACCOUNT|__GFP_ZERO", share=8, freed="tlb_remove_table_rcu"),
    Call(Kind.PAGE_ALLOC, "__pmd_alloc", gfp="GFP_KERNEL_ACCOUNT|__GFP_ZERO", share=4, freed="tlb_remove_table_rcu"),
    Call(
        Kind.PAGE_ALLOC,
        "anon_pipe_write",
        gfp="GFP_HIGHUSER|__GFP_ACCOUNT",
        share=6,
        freed="anon_pipe_buf_release",
        lifetime=0.01,
    ),
    Call(
        Kind.PAGE_ALLOC,
        "skb_page_frag_refill",
        order=3,
        gfp="GFP_KERNEL|__GFP_COMP|__GFP_NOWARN|__GFP_NORETRY",
        roles=_SERVING,
    ),
    Call(
        Kind.VMALLOC,
        "alloc_thread_stack_node",
        sizes=(16384, 16384),
        gfp="GFP_KERNEL_ACCOUNT",
        share=4,
        freed="thread_stack_free_rcu",
    ),
    Call(
        Kind.VMALLOC,
        "bpf_prog_alloc_no_stats",
        sizes=(4096, 4096),
        gfp="GFP_KERNEL|__GFP_ZERO",
        share=3,
        freed="bpf_prog_unlock_free",
    ),
)
"""The call sites; together a few dozen on each host."""

FREES = {
    Kind.KMALLOC: Kind.KFREE,
    Kind.CACHE_ALLOC: Kind.CACHE_FREE,
    Kind.PAGE_ALLOC: Kind.PAGE_FREE,
    Kind.VMALLOC: Kind.VFREE,
}
