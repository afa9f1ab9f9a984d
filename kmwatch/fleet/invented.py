"""The kernels and hosts of synthetic captures: what differs from one to the other, as it does in real fleets."""

from dataclasses import dataclass

from kmwatch.batch import Cache
from kmwatch.kernel.gfp import GfpTable, built_in

ZONES = ("DMA", "DMA32", "Normal", "Movable", "Device")
NEWEST = "6.18.2"

CACHES = {
    each.name: each
    for each in (
        Cache("dentry", 192, 192),
        Cache("filp", 232, 256),
        Cache("names_cache", 4096, 4096),
        Cache("vm_area_struct", 184, 184),
        Cache("anon_vma_chain", 64, 64),
        Cache("cred_jar", 184, 192),
        Cache("task_struct", 6784, 6848),
        Cache("mm_struct", 1304, 1344),
        Cache("signal_cache", 1128, 1152),
        Cache("skbuff_head_cache", 232, 256),
        Cache("TCP", 2432, 2496),
        Cache("ip_dst_cache", 184, 192),
        Cache("sock_inode_cache", 808, 832),
        Cache("buffer_head", 104, 104),
        Cache("jbd2_journal_handle", 56, 56),
        Cache("ext4_inode_cache", 1168, 1184),
        Cache("radix_tree_node", 576, 584),
        Cache("kernfs_node_cache", 128, 128),
        Cache("proc_inode_cache", 696, 704),
        Cache("nf_conntrack", 248, 256),
        Cache("xfs_inode", 1008, 1024),
        Cache("btrfs_extent_map", 144, 144),
        Cache("zio_cache", 1288, 1304),
    )
}

ROLES = {"web": 0.4, "db": 0.25, "cache": 0.2, "build": 0.15}
"""What hosts are for, and which share of them."""

TASKS = {
    "": (("systemd", "/init.scope"), ("sshd", "/system.slice/ssh.service"), ("kworker/u8:2", "/"), ("swapper/0", "/")),
    "web": (("nginx", "/system.slice/nginx.service"), ("php-fpm8.2", "/system.slice/php8.2-fpm.service")),
    "db": (("postgres", "/system.slice/postgresql.service"), ("txg_sync", "/")),
    "cache": (("redis-server", "/system.slice/redis.service"), ("memcached", "/system.slice/memcached.service")),
    "build": (("cc1plus", "/system.slice/runner.service"), ("ninja", "/system.slice/runner.service")),
}
"""Who runs: command and cgroup, by role, those of all hosts under ""."""

VERSIONS = {
    "ice": ("1.14.9", "1.16.3"),
    "mpt3sas": ("48.100.00.00", "48.100.00.00"),
    "zfs": ("2.2.8-1", "2.3.4-1"),
}
"""Versions of modules, the usual one and the new one; all others have none."""


@dataclass(frozen=True)
class Kernel:
    """A release, and what of it differs from the others.

    share: of the hosts. zones: in its order. more: flags that the built-in table has otherwise or not at all.
    """

    release: str
    share: float
    zones: tuple[str, ...]
    more: tuple[tuple[str, int], ...]

    @property
    def gfp(self) -> GfpTable:
        """Its GFP flags."""
        flags = dict(built_in().flags) | dict(self.more)
        return GfpTable(tuple(flags.items()), f"invented, as of Linux {self.release}")

    def offset(self, function: str) -> int:
        """Where in a function the call returns to: another place in each release."""
        seed = sum(at * ord(letter) for at, letter in enumerate(f"{self.release}/{function}", 1))
        return 0x11 + seed % 0x2F0


_NOWAIT = ("GFP_NOWAIT", 0x800)  # silent since 6.7

KERNELS = (
    # GFP_ATOMIC had a bit of its own before 6.3.
    Kernel("6.1.158", 0.1, ZONES[:4], (_NOWAIT, ("__GFP_ATOMIC", 0x200), ("GFP_ATOMIC", 0xA20))),
    Kernel("6.6.117", 0.3, ZONES[:4], (_NOWAIT, ("__GFP_NOLOCKDEP", 1 << 26))),
    # The bits from 24 up are counted since 6.10, by configuration. This one is configured without the zone DMA.
    Kernel("6.12.58", 0.3, ZONES[1:4], (("__GFP_NOLOCKDEP", 1 << 24), ("__GFP_NO_OBJ_EXT", 1 << 25))),
    Kernel(NEWEST, 0.3, ZONES, (("__GFP_NO_OBJ_EXT", 1 << 24),)),
)
