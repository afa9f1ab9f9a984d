"""The experiments that the module of kmod/ does on every kernel: one line is one row of the table.

A row says what is asked of the module: the operation, where, with which flags, how often (a prime number, each row
another, so that no count can be taken for another one), and of which size or order. What kmwatch must then say follows
from it by the rules of expected.py, which stand there once and not in every row.

Interrupts that are merely off (irqsoff) leave no trace in preempt_count: such a row reads as a process, and a sleeping
allocation there cannot be seen by a tracepoint; vmalloc and ioremap are seen by kprobes, which do see it. Otherwise a
process alone may ask for what always sleeps: vmalloc, ioremap, a kvmalloc of more than a page, a per-CPU allocation
with GFP_KERNEL.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One experiment. `size` in bytes, of each object; pages go by `order`, and have no size."""

    op: str
    ctx: str
    gfp: str
    count: int
    size: int = 0
    order: int = 0
    align: int = 0
    ctor: bool = False

    @property
    def name(self) -> str:
        """What it is called in results."""
        what = f"order {self.order}" if self.op in PAGES else f"{self.size}"
        more = f" align {self.align}" * bool(self.align) + " ctor" * self.ctor
        return f"{self.op} {what}{more} {self.ctx} {self.gfp}"


PAGES = ("alloc_pages", "get_free_pages")
"""Operations that take an order."""

ROWS = (
    # kmalloc: every context with a mask that may sleep and with one that may not; sizes odd and even, every mask.
    Row("kmalloc", "process", "GFP_KERNEL", 101, 100),
    Row("kmalloc", "process", "GFP_KERNEL", 103, 1),
    Row("kmalloc", "process", "GFP_KERNEL", 107, 97),
    Row("kmalloc", "process", "GFP_KERNEL", 109, 193),
    Row("kmalloc", "process", "GFP_KERNEL", 1009, 4096),
    Row("kmalloc", "process", "GFP_KERNEL", 113, 4097),
    Row("kmalloc", "process", "GFP_KERNEL", 127, 8192),
    Row("kmalloc", "process", "GFP_KERNEL", 131, 8193),
    Row("kmalloc", "process", "GFP_KERNEL", 137, 30001),
    Row("kmalloc", "process", "GFP_ATOMIC", 139, 101),
    Row("kmalloc", "process", "GFP_NOWAIT", 149, 65),
    Row("kmalloc", "process", "GFP_NOIO", 151, 1000),
    Row("kmalloc", "process", "GFP_NOFS", 157, 33),
    Row("kmalloc", "process", "GFP_USER", 163, 129),
    Row("kmalloc", "process", "GFP_DMA", 167, 257),
    Row("kmalloc", "process", "GFP_KERNEL_ACCOUNT", 173, 513),
    Row("kmalloc", "process", "GFP_KERNEL|__GFP_NOWARN", 179, 25),
    Row("kmalloc", "process", "GFP_KERNEL|__GFP_NORETRY", 181, 41),
    Row("kmalloc", "process", "GFP_KERNEL|__GFP_RETRY_MAYFAIL", 191, 57),
    Row("kmalloc", "process", "GFP_KERNEL|__GFP_NOFAIL", 193, 73),
    Row("kmalloc", "process", "GFP_KERNEL|__GFP_ZERO", 197, 89),
    Row("kmalloc", "process", "GFP_ATOMIC|__GFP_NOWARN", 199, 105),
    Row("kmalloc", "workqueue", "GFP_KERNEL", 211, 121),
    Row("kmalloc", "workqueue", "GFP_ATOMIC", 223, 137),
    Row("kmalloc", "spin", "GFP_KERNEL", 227, 153),
    Row("kmalloc", "spin", "GFP_ATOMIC", 229, 169),
    Row("kmalloc", "spin", "GFP_NOWAIT", 233, 185),
    Row("kmalloc", "spin", "GFP_NOFS", 239, 201),
    Row("kmalloc", "spin", "GFP_KERNEL", 241, 9001),
    Row("kmalloc", "preempt", "GFP_KERNEL", 251, 217),
    Row("kmalloc", "preempt", "GFP_ATOMIC", 257, 233),
    Row("kmalloc", "bh", "GFP_KERNEL", 263, 249),
    Row("kmalloc", "bh", "GFP_ATOMIC", 269, 265),
    Row("kmalloc", "rcu", "GFP_KERNEL", 271, 281),
    Row("kmalloc", "rcu", "GFP_ATOMIC", 277, 297),
    Row("kmalloc", "rcu", "GFP_NOIO", 281, 313),
    Row("kmalloc", "irqsoff", "GFP_KERNEL", 283, 329),
    Row("kmalloc", "irqsoff", "GFP_ATOMIC", 293, 345),
    Row("kmalloc", "softirq", "GFP_KERNEL", 307, 361),
    Row("kmalloc", "softirq", "GFP_ATOMIC", 311, 377),
    Row("kmalloc", "softirq", "GFP_ATOMIC|__GFP_NOWARN", 313, 2049),
    Row("kmalloc", "tasklet", "GFP_KERNEL", 317, 393),
    Row("kmalloc", "tasklet", "GFP_NOWAIT", 331, 409),
    Row("kmalloc", "hardirq", "GFP_KERNEL", 337, 425),
    Row("kmalloc", "hardirq", "GFP_ATOMIC", 347, 441),
    Row("kmalloc", "irqwork", "GFP_KERNEL", 349, 457),
    Row("kmalloc", "irqwork", "GFP_ATOMIC", 353, 473),
    # kzalloc: the same with __GFP_ZERO.
    Row("kzalloc", "process", "GFP_KERNEL", 359, 200),
    Row("kzalloc", "process", "GFP_KERNEL_ACCOUNT", 367, 777),
    Row("kzalloc", "process", "GFP_KERNEL", 373, 16385),
    Row("kzalloc", "spin", "GFP_KERNEL", 379, 301),
    Row("kzalloc", "spin", "GFP_ATOMIC", 383, 302),
    Row("kzalloc", "hardirq", "GFP_NOWAIT", 389, 303),
    # krealloc: half the size first, then grown to the whole.
    Row("krealloc", "process", "GFP_KERNEL", 397, 100),
    Row("krealloc", "process", "GFP_NOFS", 401, 1025),
    Row("krealloc", "softirq", "GFP_ATOMIC", 409, 512),
    Row("krealloc", "rcu", "GFP_KERNEL", 419, 2000),
    # kvmalloc: above a page it says that it has another way when kmalloc fails.
    Row("kvmalloc", "process", "GFP_KERNEL", 421, 1001),
    Row("kvmalloc", "process", "GFP_KERNEL", 431, 5001),
    Row("kvmalloc", "process", "GFP_KERNEL", 53, 20001),
    Row("kvmalloc", "process", "GFP_KERNEL_ACCOUNT", 59, 12289),
    Row("kvmalloc", "spin", "GFP_ATOMIC", 433, 602),
    # A cache of the module's own: plain, with a constructor, with an alignment.
    Row("cache", "process", "GFP_KERNEL", 439, 200),
    Row("cache", "spin", "GFP_KERNEL", 443, 200),
    Row("cache", "softirq", "GFP_ATOMIC", 449, 200),
    Row("cache", "process", "GFP_KERNEL", 457, 333, ctor=True),
    Row("cache", "rcu", "GFP_ATOMIC", 461, 333, ctor=True),
    Row("cache", "process", "GFP_KERNEL_ACCOUNT", 463, 100, align=64),
    Row("cache", "hardirq", "GFP_KERNEL", 467, 100, align=64),
    Row("cache", "bh", "GFP_NOWAIT", 479, 1025, align=256, ctor=True),
    # Pages.
    Row("get_free_pages", "process", "GFP_KERNEL", 487, order=0),
    Row("get_free_pages", "process", "GFP_KERNEL|__GFP_ZERO", 491, order=1),
    Row("get_free_pages", "process", "GFP_DMA", 61, order=0),
    Row("get_free_pages", "spin", "GFP_ATOMIC", 499, order=0),
    Row("get_free_pages", "softirq", "GFP_KERNEL", 503, order=0),
    Row("get_free_pages", "irqsoff", "GFP_ATOMIC", 509, order=2),
    Row("alloc_pages", "process", "GFP_KERNEL", 521, order=0),
    Row("alloc_pages", "process", "GFP_HIGHUSER", 523, order=0),
    Row("alloc_pages", "process", "GFP_DMA32", 541, order=0),
    Row("alloc_pages", "process", "GFP_KERNEL|__GFP_COMP", 547, order=2),
    Row("alloc_pages", "process", "GFP_KERNEL|__GFP_NORETRY|__GFP_NOWARN", 67, order=4),
    Row("alloc_pages", "process", "GFP_KERNEL|__GFP_RETRY_MAYFAIL", 71, order=3),
    Row("alloc_pages", "process", "GFP_KERNEL|__GFP_NOFAIL", 557, order=0),
    Row("alloc_pages", "process", "GFP_USER", 563, order=1),
    Row("alloc_pages", "bh", "GFP_KERNEL", 569, order=0),
    Row("alloc_pages", "rcu", "GFP_ATOMIC", 571, order=1),
    Row("alloc_pages", "hardirq", "GFP_ATOMIC", 577, order=0),
    Row("alloc_pages", "irqwork", "GFP_NOIO", 587, order=0),
    # Ways of mapping: they always may sleep.
    Row("vmalloc", "process", "GFP_KERNEL", 17, 5000),
    Row("vmalloc", "process", "GFP_KERNEL", 19, 100001),
    Row("vmalloc", "workqueue", "GFP_KERNEL", 23, 4096),
    Row("vzalloc", "process", "GFP_KERNEL", 29, 12345),
    Row("vmalloc", "irqsoff", "GFP_KERNEL", 7, 3000),
    Row("ioremap", "irqsoff", "GFP_KERNEL", 11, 4096),
    Row("ioremap", "process", "GFP_KERNEL", 31, 4096),
    Row("ioremap", "workqueue", "GFP_KERNEL", 37, 8192),
    # One copy for every CPU.
    Row("percpu", "process", "GFP_KERNEL", 41, 64),
    Row("percpu", "process", "GFP_KERNEL", 43, 100),
    Row("percpu", "process", "GFP_KERNEL|__GFP_NOWARN", 73, 8, align=8),
    Row("percpu", "process", "GFP_ATOMIC", 47, 128, align=64),
    Row("percpu", "spin", "GFP_NOWAIT", 79, 24),
    Row("percpu", "softirq", "GFP_ATOMIC", 83, 16),
)
