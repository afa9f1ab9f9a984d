"""Failures on purpose: each counted once, at the function that asked, as what it was, with the finding it deserves.

The module exhausts or fragments the memory for as long as one run takes; kmwatch has to tell what failed meanwhile.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kmwatch.failures import Failure
from kmwatch.findings import Finding
from kmwatch.ledger import Ledger
from kmwatch.rules import judge
from kmwatch.schema import Kind
from kmwatch.watermarks import headroom
from tests.guest.inside.lab import Lab
from tests.live.watching import Watch, only
from tests.support import wait_until

pytestmark = pytest.mark.live

_CGROUP = Path("/sys/fs/cgroup/kmwatch-lab")
_CGROUP_BYTES = 16 << 20
_REFUSED = -95  # EOPNOTSUPP: what this kernel cannot do there (PREEMPT_RT)
_ENOUGH = 256 << 20  # bytes that must be available again after a test
_LOOKS_AGAIN = 1.1  # seconds: a program looks at most once a second for each row
_KINDS = {"alloc_pages": Kind.PAGE_ALLOC, "get_free_pages": Kind.PAGE_ALLOC, "cache": Kind.CACHE_ALLOC}
_CONTEXTS = {"spin": "process+preempt-off", "softirq": "softirq", "hardirq": "hardirq"}


class Case(NamedTuple):
    """One experiment: until so many requests have failed, and why they do; `too large` fails without trying."""

    op: str
    ctx: str
    gfp: str
    words: str
    failures: int
    why: str

    def __str__(self) -> str:
        words = self.words.replace("=", "-").replace(" ", "-")
        return f"{self.op}-{self.ctx}-{self.gfp}-{words}-{self.why.replace(' ', '-')}"


# What a try may be judged to be, where more than one thing is true, stands with a slash between.
CASES = (
    Case("alloc_pages", "process", "GFP_ATOMIC", "order=0", 1, "depletion"),
    Case("alloc_pages", "process", "GFP_ATOMIC", "order=0 flags=exhausted", 7, "depletion"),
    Case("alloc_pages", "process", "GFP_ATOMIC", "order=3 flags=exhausted", 11, "depletion"),
    Case("alloc_pages", "softirq", "GFP_ATOMIC", "order=0 flags=exhausted", 13, "depletion"),
    Case("alloc_pages", "hardirq", "GFP_ATOMIC", "order=0 flags=exhausted", 17, "depletion"),
    Case("alloc_pages", "spin", "GFP_ATOMIC", "order=0 flags=exhausted", 19, "depletion"),
    Case("get_free_pages", "process", "GFP_ATOMIC", "order=1 flags=exhausted", 23, "depletion"),
    Case("kmalloc", "process", "GFP_ATOMIC", "size=1000 flags=exhausted", 29, "depletion"),
    Case("kmalloc", "softirq", "GFP_ATOMIC", "size=1000 flags=exhausted", 31, "depletion"),
    Case("cache", "process", "GFP_ATOMIC", "size=1000 flags=exhausted", 37, "depletion"),
    Case("alloc_pages", "process", "GFP_NOWAIT", "order=0 flags=exhausted", 41, "depletion"),
    Case("kmalloc", "process", "GFP_NOWAIT", "size=1000 flags=exhausted", 43, "depletion"),
    Case("kmalloc", "process", "GFP_KERNEL|__GFP_NOWARN", "size=5242880", 5, "too large"),
    Case("kmalloc", "process", "GFP_ATOMIC|__GFP_NOWARN", "size=5242880", 7, "too large"),
    Case("alloc_pages", "process", "GFP_ATOMIC", "order=3 flags=fragmented", 61, "fragmentation"),
    Case("alloc_pages", "process", "GFP_ATOMIC", "order=4 flags=fragmented", 67, "fragmentation/too large"),
    Case("alloc_pages", "softirq", "GFP_ATOMIC", "order=3 flags=fragmented", 71, "fragmentation"),
    Case("kmalloc", "process", "GFP_ATOMIC", "size=32768 flags=fragmented", 73, "fragmentation"),
    Case("alloc_pages", "process", "GFP_KERNEL", "order=4 flags=fragmented", 3, "fragmentation"),
    Case("alloc_pages", "process", "GFP_KERNEL|__GFP_NORETRY", "order=4 flags=fragmented", 31, "fragmentation"),
    Case(
        "alloc_pages",
        "process",
        "GFP_KERNEL|__GFP_NORETRY|__GFP_NOWARN",
        "order=4 flags=fragmented",
        37,
        "fragmentation",
    ),
    Case("alloc_pages", "process", "GFP_ATOMIC|GFP_DMA", "order=0", 41, "wrong zone"),
    Case("alloc_pages", "process", "GFP_KERNEL|__GFP_NORETRY|GFP_DMA", "order=0", 5, "wrong zone"),
    Case("kmalloc", "process", "GFP_ATOMIC|GFP_DMA", "size=1000", 47, "wrong zone"),
)


# In a cgroup that may have 16 MiB.
LIMITED = (
    Case("alloc_pages", "process", "GFP_KERNEL_ACCOUNT|__GFP_NORETRY", "order=0", 47, "cgroup limit"),
    Case("alloc_pages", "process", "GFP_KERNEL_ACCOUNT|__GFP_NORETRY|__GFP_NOWARN", "order=0", 53, "cgroup limit"),
    Case("kmalloc", "process", "GFP_KERNEL_ACCOUNT|__GFP_RETRY_MAYFAIL", "size=4096", 59, "cgroup limit"),
)


@pytest.fixture(scope="module", autouse=True)
def _cgroup(lab: Lab) -> Iterator[None]:
    """A cgroup with little memory; these tests are spared where memory is short."""
    for pid in ("self", lab.pid):
        Path(f"/proc/{pid}/oom_score_adj").write_text("-1000")
    (_CGROUP.parent / "cgroup.subtree_control").write_text("+memory")
    _CGROUP.mkdir()
    (_CGROUP / "memory.max").write_text(str(_CGROUP_BYTES))
    yield
    _CGROUP.rmdir()


@pytest.fixture
def limited(lab: Lab) -> Iterator[None]:
    """What the module does in process context is done in the cgroup with little memory."""
    (_CGROUP / "cgroup.procs").write_text(str(lab.pid))
    yield
    (_CGROUP.parent / "cgroup.procs").write_text(str(lab.pid))


@pytest.fixture(autouse=True)
def _memory_is_free_again() -> Iterator[None]:
    yield
    wait_until(lambda: available() > _ENOUGH, 20, "memory to be free again")


def available() -> int:
    """What /proc/meminfo calls available, in bytes."""
    words = Path("/proc/meminfo").read_text().partition("MemAvailable:")[2].split()
    return int(words[0]) << 10


def perform(lab: Lab, watch: Watch, line: str) -> tuple[dict[str, Any], Ledger]:
    """What the module says of a line, and what kmwatch saw meanwhile."""
    did: list[dict[str, Any]] = []
    ledger = watch.during(lambda: did.append(lab.ask(line)))
    if did[0]["error"] == _REFUSED and did[0]["preempt_rt"]:
        pytest.skip("not on PREEMPT_RT: the allocators' locks sleep there")
    assert did[0]["error"] == 0, did
    assert ledger.events(Kind.OOM_VICTIM) == 0
    return did[0], ledger


def request(watch: Watch, case: Case) -> str:
    """The line for a case: to its last failure, however many succeed before."""
    words = case.words.split(" flags=")
    flags = ",".join(["until_failure", *words[1:]])
    mask = watch.source.meta.gfp.encode(case.gfp)
    return f"op={case.op} ctx={case.ctx} gfp={mask:#x} n=1000000 {words[0]} failures={case.failures} flags={flags}"


def failed_at(ledger: Ledger, symbols: set[str]) -> int:
    """How many allocations failed at some functions, whatever the kind, none counted twice."""
    named = [number for number, site in enumerate(ledger.meta.sites) if site.symbol.partition(".")[0] in symbols]
    groups = ledger.groups("site", once=True)
    chosen = groups[[int(each) in named for each in groups["site"]]]
    return int(chosen["failures"].sum() + chosen["opportunistic_failures"].sum())


def findings(ledger: Ledger, symbol: str) -> list[tuple[str, Finding]]:
    """The findings about failures at a function, with the codes of their rules."""
    found = [each for each in judge(ledger) if each.rule.code in ("KM202", "KM203", "KM204")]
    return [(each.rule.code, each.finding) for each in found if each.finding.site.startswith(f"{symbol}+")]


def hold_verdict(finding: Finding, why: str) -> None:
    """The finding says why it failed."""
    assert finding.evidence["verdict"] in why.split("/"), finding


def hold_state(did: dict[str, Any], words: str) -> None:
    """The memory was really as it was asked to be when the first request failed."""
    if "exhausted" in words:
        assert did["free_pages"] < did["filled"] / 10, did
    if "fragmented" in words:
        assert did["free_pages"] > did["filled"] / 2, did
        assert did["free_blocks"] << did["order"] < did["free_pages"] / 20, did


def check(lab: Lab, watch: Watch, case: Case) -> None:
    """Do a case, and hold kmwatch to what the module says that it did, and to why it failed."""
    finding = done(lab, watch, case)
    if finding.evidence["verdict"] == "unknown":
        # The kernel logs a failure before it traces it: kswapd can have freed a block when the program looks.
        time.sleep(_LOOKS_AGAIN)
        finding = done(lab, watch, case)
    hold_verdict(finding, case.why)


def done(lab: Lab, watch: Watch, case: Case) -> Finding:
    """Do a case; its finding, which has the right numbers."""
    did, ledger = perform(lab, watch, request(watch, case))
    mask, symbol = int(did["gfp"], 16), f"lab_{case.op}"
    gfp = watch.source.meta.gfp
    own = only(ledger, {symbol}, _KINDS.get(case.op, Kind.KMALLOC)).facts
    rule = "KM203" if gfp.opportunistic(mask) else "KM204" if gfp.may_sleep(mask) else "KM202"
    found = findings(ledger, symbol)

    assert (did["failed"], did["held"]) == (case.failures, 0), did
    hold_state(did, case.words)
    assert failed_at(ledger, {symbol}) == case.failures
    assert own["count"].sum() == did["done"]
    assert own["opportunistic_failures" if rule == "KM203" else "failures"].sum() == case.failures
    assert [code for code, _ in found] == [rule], found
    evidence = found[0][1].evidence
    assert evidence["failures"] + evidence["opportunistic_failures"] == case.failures
    assert int(evidence["gfp_mask"], 16) == mask
    assert evidence["context"].startswith(context(case, did)), evidence
    assert evidence["order"] == did["order"] or case.op in ("kmalloc", "cache")
    assert evidence["zone_asked"] == ("DMA" if case.why == "wrong zone" else "Normal")
    return found[0][1]


def context(case: Case, did: dict[str, Any]) -> str:
    """How the context that kmwatch tells begins; on PREEMPT_RT spinlocks and soft interrupts leave no trace."""
    if did["preempt_rt"] or case.ctx == "process":
        return "process"
    return _CONTEXTS[case.ctx] if did["preempt_counted"] else case.ctx.replace("spin", "process")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_failure_is_counted_once_where_it_was_asked_for(lab: Lab, watch: Watch, case: Case) -> None:
    check(lab, watch, case)


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("case", LIMITED, ids=str)
def test_so_is_one_of_a_cgroup_at_its_limit(lab: Lab, watch: Watch, case: Case) -> None:
    check(lab, watch, case)


def test_a_kvmalloc_that_falls_back_is_a_first_try_that_failed(lab: Lab, watch: Watch) -> None:
    """All succeed, and those that vmalloc had to do have failed before; they are held, so that no block comes back."""
    mask = watch.source.meta.gfp.encode("GFP_KERNEL")
    did, ledger = perform(lab, watch, f"op=kvmalloc gfp={mask:#x} size=131072 n=400 flags=fragmented,hold")
    lab.ask("op=release")
    found = findings(ledger, "lab_kvmalloc")

    assert (did["done"], did["failed"]) == (400, 0), did
    assert did["vmapped"] > 0, did
    assert failed_at(ledger, {"lab_kvmalloc"}) == did["vmapped"]
    assert [code for code, _ in found] == ["KM203"], found
    assert found[0][1].evidence["opportunistic_failures"] == did["vmapped"]
    hold_verdict(found[0][1], "fragmentation")


@pytest.mark.parametrize("gfp", ["GFP_KERNEL", "GFP_ATOMIC"])
def test_no_event_tells_of_an_order_above_the_largest(lab: Lab, watch: Watch, gfp: str) -> None:
    """The kernel refuses it before it traces anything: the caller gets NULL, and nobody who watches can know."""
    mask = watch.source.meta.gfp.encode(f"{gfp}|__GFP_NOWARN")
    largest = lab.result()["max_order"]
    did, ledger = perform(lab, watch, f"op=alloc_pages gfp={mask:#x} order={largest + 1} n=5")

    assert (did["done"], did["failed"]) == (0, 5), did
    assert only(ledger, {"lab_alloc_pages"}, Kind.PAGE_ALLOC).events() == 0
    assert findings(ledger, "lab_alloc_pages") == []


@pytest.mark.parametrize("order", [1, 3, 9])
def test_as_many_blocks_can_be_had_as_are_told_to_be_left(lab: Lab, watch: Watch, order: int) -> None:
    """KM504's number, against the kernel: GFP_ATOMIC until it fails. kswapd frees some more meanwhile."""
    time.sleep(_LOOKS_AGAIN)  # the zones are looked at once a second
    watch.source.read()
    meta = watch.source.meta
    mask = meta.gfp.encode("GFP_ATOMIC|__GFP_NOWARN")
    told = headroom(Failure("page", order, mask, kernel=meta.host.kernel, zones=tuple(meta.memory)), meta.gfp)

    did = lab.ask(f"op=alloc_pages gfp={mask:#x} order={order} n=1000000 failures=1 flags=until_failure")

    assert did["failed"] == 1, did
    assert told == pytest.approx(did["done"], rel=0.1), meta.memory
