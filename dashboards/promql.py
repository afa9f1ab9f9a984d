"""The few forms that all expressions have, so that none forgets an instance, a fold into `other` or a variable."""

HOST = 'instance=~"$instance"'
"""The hosts that were chosen."""
PLACE = f'{HOST},module=~"$module",site=~"$site"'
"""The call sites that were chosen, with `other`, which stands for all that have no series of their own."""
SITE = f'{PLACE},site!="other"'
"""The same without `other`: a site that was idle is added to it, which in a rate would look like a burst."""


def rate(metric: str, by: str = "instance", where: str = HOST) -> str:
    """How fast a counter grows, in its unit a second, summed by labels."""
    return f"sum by ({by}) (rate({metric}{{{where}}}[$__rate_interval]))"


def total(metric: str, by: str, where: str = HOST) -> str:
    """What a counter or gauge is now, summed by labels, where it is not nothing."""
    return f"sum by ({by}) ({metric}{{{where}}}) > 0"


def grown(metric: str, where: str = HOST) -> str:
    """By how much a counter of call sites grew while the dashboard looks, on all hosts.

    The sum is taken first: what moves from a site to `other` between two scrapes stays in it.
    """
    return f"sum(increase(sum by (instance) ({metric}{{{where}}})[$__range:]))"


def top(count: int, expr: str) -> str:
    """The largest of them, by number."""
    return f"topk({count}, {expr})"


def ratio(part: str, whole: str) -> str:
    """One of the other, where there is any of the other."""
    return f"{part} / ({whole} > 0)"
