"""The call trace of a kernel log: its frames, who asked for the memory, and where the CPU was."""

import re
from dataclasses import dataclass, field

from kmwatch.kernel.allocators import via_of
from kmwatch.kernel.symbols import Site
from kmwatch.schema import Context

MOST_FRAMES = 64
"""Frames of a trace that are kept."""

_FRAME = re.compile(
    r"(\?\s{1,2})?(?<![\w.$])\.?([A-Za-z_][\w.$]{0,120})\+0x([0-9a-f]{1,8})/0x[0-9a-f]{1,8}"
    r"(?:\s\[([\w-]{1,60})(?:\s[0-9a-f]{8,64})?\])?"
)
_MARK = re.compile(r"<(/?)(IRQ|SOFTIRQ|NMI|TASK|EOI|EOE)>")
_REGISTERS = re.compile(r"(?:RIP|EIP|PC|LR|NIP|pc|lr|epc|ra|Code|Workqueue|Modules linked in)\b")
_END = re.compile(r"</TASK>|Code: |WARNING: |BUG: |-{8,}\[ |---\[ end ")


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What prints the failure, on top of the allocators in every trace.
_PRINTERS = _names("""
    __dump_stack __warn_alloc c_backtrace dump_backtrace dump_backtrace_entry dump_stack dump_stack_lvl show_stack
    show_stack_log_lvl show_trace_log_lvl slab_out_of_memory unwind_backtrace unwind_stack warn_alloc
    warn_alloc_failed warn_alloc_show_mem walk_stackframe
    """)
# Allocators' functions of older kernels, which today's list need not have.
_OLD_ALLOCATORS = _names("""
    ____cache_alloc ____cache_alloc_node __alloc_page_frag __alloc_pages_high_priority __alloc_pages_internal
    __cache_alloc __cache_alloc_node __do_kmalloc __do_kmalloc_node __get_free_page __page_frag_refill
    __slab_alloc_node __vmalloc_node_range_noprof alloc_page alloc_page_vma allocate_slab cache_alloc_refill
    cache_flusharray cache_grow cache_grow_begin fallback_alloc kmalloc_large_node_hook kmem_getpages
    kmem_alloc_pages page_frag_alloc slab_alloc slab_post_alloc_hook slob_alloc slob_new_page slob_new_pages
    vmalloc_exec
    """)
# Functions that allocate for others: who asked lies beyond them.
_HELPERS = _names("""
    __alloc_skb __build_skb __dev_alloc_skb __devm_alloc_percpu __dma_alloc __dma_alloc_from_contiguous
    __dma_direct_alloc_pages __iommu_dma_alloc_pages __napi_alloc_skb __netdev_alloc_frag __netdev_alloc_skb
    __pskb_copy_fclone __skb_clone alloc_skb alloc_skb_with_frags dev_alloc_skb devm_kmalloc dma_alloc_attrs
    dma_alloc_coherent dma_direct_alloc dma_pool_alloc dmam_alloc_attrs iommu_dma_alloc kmalloc_reserve
    mempool_alloc mempool_alloc_slab mempool_kmalloc napi_alloc_skb netdev_alloc_skb page_pool_alloc_pages
    pskb_expand_head skb_clone skb_copy skb_copy_expand skb_page_frag_refill sk_page_frag_refill
    sock_alloc_send_pskb x86_swiotlb_alloc_coherent
    """)
_SOFT = _names("""
    __do_softirq ___do_softirq __softirqentry_text_start call_softirq do_softirq do_softirq_own_stack
    handle_softirqs net_rx_action run_ksoftirqd tasklet_action
    """)
_HARD = _names("""
    __handle_domain_irq __handle_irq_event_percpu __irq_svc __irq_usr asm_common_interrupt common_interrupt do_IRQ
    do_asm_irq generic_handle_irq gic_handle_irq handle_IRQ handle_domain_irq handle_irq handle_irq_event
    handle_irq_event_percpu plat_irq_dispatch
    """)
_TASKS = _names("""
    do_el0_svc do_syscall_64 el0_svc entry_SYSCALL_64_after_hwframe entry_SYSCALL_64_fastpath kernel_thread_helper
    kthread ret_fast_syscall ret_from_fork ret_from_fork_asm ret_from_kernel_thread system_call_fastpath
    worker_thread
    """)
_SECTIONS = {"NMI": Context.NMI, "SOFTIRQ": Context.SOFTIRQ}


@dataclass(frozen=True)
class Frame:
    """A function of a trace; sure: no question mark before it; section: of the trace, as `<IRQ>` marks them."""

    site: Site
    sure: bool
    section: str

    @property
    def name(self) -> str:
        """The function without what compilers append to it."""
        return self.site.symbol.partition(".")[0]


@dataclass
class Trace:
    """A call trace that is being read, innermost frame first."""

    frames: list[Frame] = field(default_factory=list)
    ended: bool = False
    _section: str = ""
    _begun: bool = False

    def feed(self, text: str) -> None:
        """Take a line; those that are no part of a trace change nothing."""
        if self.ended:
            return
        if "Call Trace:" in text or "Backtrace:" in text:
            self.ended, self._begun = self._begun and bool(self.frames), True
        for mark in _MARK.finditer(text[:256]):
            self._section = "" if mark[1] or mark[2] in ("EOI", "EOE") else mark[2]
        if not _REGISTERS.match(text.lstrip()):
            self._frame(text[:512])
        if self.frames and _END.search(text[:256]):
            self.ended = True

    def reliable(self) -> list[Frame]:
        """The frames without the guesses; all of them where the kernel only guesses, as without frame pointers."""
        if self.frames and not self.frames[0].sure:
            return self.frames
        return [frame for frame in self.frames if frame.sure]

    def owner(self) -> Frame | None:
        """The innermost frame outside the allocators: who asked."""
        return next((frame for frame in self.reliable() if not _inside(frame.name)), None)

    def caller(self) -> Frame | None:
        """The innermost frame that is no helper either: whose request it is; the owner where all are helpers."""
        outside = (frame for frame in self.reliable() if not _inside(frame.name) and frame.name not in _HELPERS)
        return next(outside, self.owner())

    def context(self, *, may_sleep: bool) -> Context:
        """Where the CPU was; UNKNOWN where the trace does not tell.

        A trace shows interrupts, not the locks that a process held: a process is believed to be free to sleep only
        where its mask says so.
        """
        frames = self.reliable()
        process = Context(0) if may_sleep else Context.UNKNOWN
        for at, frame in enumerate(frames):
            if frame.section in _SECTIONS:
                return Context(_SECTIONS[frame.section])
            if frame.name in _SOFT:
                return Context(Context.SOFTIRQ)
            if frame.name in _HARD or (frame.section == "IRQ" and _last_of(frames, at)):
                return Context(Context.HARDIRQ)
            if frame.section == "TASK" or frame.name in _TASKS:
                # A soft interrupt that runs on the task's own stack lies further out.
                soft = any(each.name in _SOFT for each in frames[at:])
                return Context(Context.SOFTIRQ) if soft else process
        return Context(Context.UNKNOWN)

    def _frame(self, text: str) -> None:
        found = list(_FRAME.finditer(text))
        if not found or len(self.frames) >= MOST_FRAMES:
            return
        # ARM prints `(callee+…) from [<…>] (caller+…)`: each caller once.
        match = found[-1]
        site = Site(f"{match[2]}+0x{match[3]}", match[2], match[4] or "")
        self.frames.append(Frame(site, not match[1], self._section))


def _last_of(frames: list[Frame], at: int) -> bool:
    """Whether an interrupt's section ends here."""
    return at + 1 == len(frames) or frames[at + 1].section != frames[at].section


def _inside(name: str) -> bool:
    name = name.removesuffix("_noprof")
    return bool(via_of(name)) or name in _PRINTERS or name in _OLD_ALLOCATORS
