"""The words for where an allocation was made."""

import itertools
import re

import pytest

from kmwatch import contexts
from kmwatch.schema import Context

FORM = re.compile(r"unknown|(process|softirq|hardirq|nmi)(\+preempt-off)?(\+bh-off)?(\+irqs-off)?(\+rcu)?")


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (0, "process"),
        (Context.SOFTIRQ, "softirq"),
        (Context.HARDIRQ, "hardirq"),
        (Context.NMI, "nmi"),
        (Context.RCU, "process+rcu"),
        (Context.PREEMPT_OFF, "process+preempt-off"),
        (Context.SOFTIRQ | Context.RCU | Context.PREEMPT_OFF, "softirq+preempt-off+rcu"),
        (Context.SOFTIRQ | Context.HARDIRQ, "hardirq"),
        (Context.SOFTIRQ | Context.HARDIRQ | Context.NMI, "nmi"),
        (
            Context.RCU | Context.IRQS_OFF | Context.BH_OFF | Context.PREEMPT_OFF,
            "process+preempt-off+bh-off+irqs-off+rcu",
        ),
        (Context.UNKNOWN, "unknown"),
        (Context.UNKNOWN | Context.SOFTIRQ | Context.RCU, "unknown"),
    ],
)
def test_bits_in_words(bits: int, words: str) -> None:
    assert contexts.name(bits) == words


def test_every_combination_has_the_published_form_and_no_two_qualifiers_look_alike() -> None:
    names = {bits: contexts.name(bits) for bits in range(256)}

    assert [bits for bits, name in names.items() if not FORM.fullmatch(name)] == []
    qualifiers = (Context.PREEMPT_OFF, Context.BH_OFF, Context.IRQS_OFF, Context.RCU)
    sums = [sum(chosen) for count in range(5) for chosen in itertools.combinations(qualifiers, count)]
    assert len({names[bits] for bits in sums}) == 16
