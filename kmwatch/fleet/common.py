"""Findings over a fleet: by rule and function, and how many hosts have each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kmwatch.findings import SEVERITIES, Finding, Found
from kmwatch.gate.places import Place, spot_of

MOST = 200
"""Findings that are kept of a capture, the worst."""

_HOSTS = 10  # that are named
_LONGEST = 1000  # characters of an example
_TENTHS = 10  # savings are added up in whole tenths of a byte: sums do not depend on their order

Key = tuple[str, Place]


@dataclass(frozen=True)
class Common:
    """A finding that hosts have in common.

    severity: the worst that any has. hosts, share: how many have it, and of all. first: the first of them by name.
    saving: bytes a second that it would save on all of them. host, site, message, advice: an example.
    """

    rule: str
    name: str
    place: Place
    severity: str
    hosts: int
    share: float
    first: tuple[str, ...]
    saving: float
    host: str
    site: str
    message: str
    advice: str


@dataclass(frozen=True, order=True)
class _Example:
    """The least of them is told, whatever came first."""

    severity: int
    host: str
    site: str
    message: str
    advice: str


class Findings:
    """The findings of all captures so far."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._hosts: dict[Key, dict[str, int]] = {}  # the saving on each host
        self._examples: dict[Key, _Example] = {}

    def add(self, host: str, found: Sequence[Found]) -> None:
        """Add those of a capture. Of several captures of a host the greatest saving counts."""
        savings: dict[Key, int] = {}
        for each in sorted(found, key=_worst)[:MOST]:
            key = each.rule.code, spot_of(each.finding).place
            savings[key] = savings.get(key, 0) + round(each.finding.saving * _TENTHS)
            self._names[each.rule.code] = each.rule.name
            example = _example(host, each)
            self._examples[key] = min(example, self._examples.get(key, example))
        for key, saving in savings.items():
            hosts = self._hosts.setdefault(key, {})
            hosts[host] = max(saving, hosts.get(host, saving))

    def common(self, total: int) -> list[Common]:
        """All of them, of so many hosts: the worst first, then those that most hosts have."""
        found = [self._common(key, total) for key in self._hosts]
        return sorted(
            found,
            key=lambda each: (SEVERITIES.index(each.severity), -each.hosts, -each.saving, each.rule, each.place),
        )

    def severity(self, key: Key) -> str:
        """The worst that any host has."""
        return SEVERITIES[self._examples[key].severity]

    def categorical(self) -> Iterator[tuple[Key, str, list[str]]]:
        """Each finding that a host has or has not, with its rule's name and the hosts that have it, in order.

        Those that would save bytes are left out: a little more load makes one, and hosts differ in that.
        """
        for key in sorted(self._hosts):
            if not any(self._hosts[key].values()):
                yield key, self._names[key[0]], sorted(self._hosts[key])

    def _common(self, key: Key, total: int) -> Common:
        (code, place), hosts, example = key, self._hosts[key], self._examples[key]
        return Common(
            code,
            self._names[code],
            place,
            self.severity(key),
            len(hosts),
            len(hosts) / max(total, 1),
            tuple(sorted(hosts)[:_HOSTS]),
            sum(hosts.values()) / _TENTHS,
            example.host,
            example.site,
            example.message,
            example.advice,
        )


def _example(host: str, found: Found) -> _Example:
    finding = found.finding
    texts = (text[:_LONGEST] for text in (finding.message, finding.advice))
    return _Example(SEVERITIES.index(found.severity), host, finding.site, *texts)


def _worst(found: Found) -> tuple[int, float, str, str, str]:
    finding: Finding = found.finding
    severity = SEVERITIES.index(found.severity)
    return severity, -finding.saving, found.rule.code, finding.site, finding.message
