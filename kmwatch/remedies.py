"""What to change so that an allocation does not fail like that again."""

from kmwatch.failures import Failure
from kmwatch.kernel.gfp import GfpTable


def advice_for(verdict: str, failure: Failure, gfp: GfpTable) -> str:
    """The advice for a verdict of kmwatch.verdicts; one sentence or two."""
    sleeps = gfp.may_sleep(failure.gfp)
    if verdict == "depletion":
        return _short(sleeps=sleeps)
    if verdict in ("fragmentation", "too large"):
        return _contiguous(failure, gfp, sleeps=sleeps)
    return _to_find_out(failure) if verdict == "unknown" else _OTHERS[verdict]


_OTHERS = {
    "wrong zone": "drop GFP_DMA or GFP_DMA32 where the device can address more: set its real DMA mask and let "
    "dma_alloc_coherent() choose the zone; else allocate once, at start, and keep it",
    "lowmem_reserve": "relieve the zones above; a lower protection (vm.lowmem_reserve_ratio) only moves the shortage "
    "to those who can use no other zone",
    "cgroup limit": "raise the cgroup's limit (memory.max) or find what it holds in kernel memory; do not charge with "
    "__GFP_ACCOUNT what no process can be blamed for",
}


def _to_find_out(failure: Failure) -> str:
    """What would tell more."""
    if not failure.zones:
        return "import the whole log; `kmwatch record` shows such failures as they happen"
    if failure.kind == "vmalloc":
        return "look in /proc/vmallocinfo for who holds the areas; on 32 bits the boot option vmalloc= makes more room"
    return "`kmwatch record` shows such failures as they happen"


def _short(*, sleeps: bool) -> str:
    if sleeps:
        return (
            "find who holds the memory (`kmwatch report`); a caller that can do without should say so with "
            "__GFP_RETRY_MAYFAIL or __GFP_NORETRY, and survive NULL"
        )
    return (
        "raise vm.min_free_kbytes, the reserve that such requests live on; allocate ahead in process context or from a "
        "mempool, and survive NULL"
    )


def _contiguous(failure: Failure, gfp: GfpTable, *, sleeps: bool) -> str:
    small = failure.gfp & (gfp.bit("__GFP_DMA32") | gfp.bit("__GFP_DMA"))
    zone = "; without GFP_DMA32 or GFP_DMA all memory could serve" if small else ""
    if failure.cache:
        return f"keep the slabs of the cache small (boot option slab_max_order=0), or its objects below a page{zone}"
    if sleeps and small:
        return (
            "allocate the device's buffer once, at start, and keep it over suspend, or let the device take it in "
            f"pieces (scatter-gather){zone}"
        )
    if sleeps:
        return (
            "use kvmalloc() where no device needs it contiguous; else chain pages of order 0, or allocate once, "
            "at start, and keep it"
        )
    return (
        "ask for order 0 (page fragments, a scatter list) or allocate ahead in process context, from a mempool; "
        f"vm.min_free_kbytes makes it rarer, not impossible{zone}"
    )
