"""The context of an allocation in words, as reports print it."""

from kmwatch.schema import Context

_PLACES = ((Context.NMI, "nmi"), (Context.HARDIRQ, "hardirq"), (Context.SOFTIRQ, "softirq"))
_QUALIFIERS = (
    (Context.PREEMPT_OFF, "preempt-off"),
    (Context.BH_OFF, "bh-off"),
    (Context.IRQS_OFF, "irqs-off"),
    (Context.RCU, "rcu"),
)


def name(bits: int) -> str:
    """`process`, `softirq`, `hardirq`, `nmi` or `unknown`, with what else holds: `process+preempt-off+rcu`.

    A bare `process` may sleep; everything else that is known may not.
    """
    if bits & Context.UNKNOWN:
        return "unknown"
    place = next((word for bit, word in _PLACES if bits & bit), "process")
    return "+".join([place, *(word for bit, word in _QUALIFIERS if bits & bit)])
