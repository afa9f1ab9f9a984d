"""KM209 and KM210: failures that nobody hears of, and callers that ask again and again."""

from collections.abc import Iterator

from kmwatch.findings import Finding, rule
from kmwatch.ledger import Ledger
from kmwatch.rules.groups import attempts, evidence, groups, per_second, site
from kmwatch.units import number


@rule("KM209", "silent-allocation-failure", "notice", since="0.2")
def silent_failure(ledger: Ledger) -> Iterator[Finding]:
    """An allocation failed, its mask kept the kernel silent, and nothing says that the caller expected it.

    What it sees: failures with __GFP_NOWARN that are real by their mask: they wait, retry or use the reserves, as none
    of KM203's first tries does. KM202 or KM204 tells the same failures with their reason.

    Why it matters: the kernel log has no line of them. Where the caller has no fallback, a device or a system call
    fails without any trace of why.

    What to do: see that the caller handles NULL and says so somewhere (a counter, a message that is rate-limited); with
    a real fallback add __GFP_NORETRY, so that the first try is cheap.

    When it is fine: where the caller passes the error on, as for a size that a user chose.

    Kernel's own words: include/linux/gfp_types.h: __GFP_NOWARN suppresses allocation failure reports.

    Needs: an event of the failure and its mask. What the caller did then is in no event: the finding is a candidate.
    """
    silent = ledger.meta.gfp.bit("__GFP_NOWARN")
    for group in groups(ledger):
        if not (silent and int(group["gfp"]) & silent and group["failures"] > 0):
            continue
        told = evidence(ledger, group)
        yield Finding(
            site=site(ledger, group),
            message=f"{told['kind']} of order {told['order']} with {told['gfp']} failed {number(told['failures'])} "
            "times, and the kernel log says nothing of it",
            advice="see that the caller handles NULL and counts it; with a fallback add __GFP_NORETRY",
            evidence=told,
            confidence="candidate",
        )


@rule("KM210", "retry-storm", "warning", since="0.2")
def retry_storm(ledger: Ledger) -> Iterator[Finding]:
    """A site keeps asking for what it does not get.

    What it sees: at one site, with one mask and size class, ten or more real failures a second, fifty in all, and at
    least half of the attempts.

    Why it matters: a loop around an allocation burns a CPU, and where it waits each turn reclaims, so that all others
    wait too. It ends only when somebody else frees memory.

    What to do: __GFP_RETRY_MAYFAIL, or __GFP_NOFAIL for what truly cannot fail and may sleep, in place of the loop; in
    atomic context give up, and try again later from a work item.

    When it is fine: where many callers share the site and each fails once: a full memory cgroup looks like that.

    Kernel's own words: include/linux/gfp_types.h: it is definitely preferable to use __GFP_NOFAIL rather than to
    open-code an endless loop around the allocator.

    Needs: events of the failures. Whether one caller asks again or many ask once does not show: the finding is likely.
    """
    limits = ledger.thresholds
    for group in groups(ledger):
        failed, asked = int(group["failures"]), attempts(group)
        rate = per_second(ledger, failed)
        if failed < max(limits.storm_count, limits.storm_share * asked) or rate < limits.storm_rate:
            continue
        told = evidence(ledger, group)
        yield Finding(
            site=site(ledger, group),
            message=f"{told['kind']} of order {told['order']} with {told['gfp']} failed {number(failed)} of "
            f"{number(asked)} times, {number(round(rate))} a second",
            advice="no loop around the allocator: __GFP_RETRY_MAYFAIL and an error, or __GFP_NOFAIL where it may sleep"
            if group["may_sleep"]
            else "give up here and try again later from a work item, which may sleep",
            evidence=told | {"failures_per_second": round(rate, 1)},
            confidence="likely",
        )
