"""meta.json of a capture: whose memory it is, and the tables of that kernel, so that no other one is asked."""

from dataclasses import asdict
from typing import Any

from kmwatch import __version__
from kmwatch.batch import Host, Meta
from kmwatch.capture.layout import META, VERSION
from kmwatch.errors import BadInputError
from kmwatch.failures import failures_from_json, failures_to_json, zones_from_json
from kmwatch.kernel.gfp import GfpTable
from kmwatch.kernel.slab import AllocatorLimits

FORMAT = "kmwatch.capture"
_MOST_NAMES = 256
_MOST_CPUS = 1 << 20
_MOST_MODULES = 4096
_LATEST = 1e11  # seconds since the epoch


def to_json(meta: Meta) -> dict[str, Any]:
    """What meta.json says of a kernel."""
    host = meta.host
    return {
        "format": FORMAT,
        "version": VERSION,
        "kmwatch": __version__,
        "host": {"hostname": host.hostname, "kernel": host.kernel, "boot_id": host.boot_id, "cpus": host.cpus},
        "gfp": meta.gfp.to_json(),
        "limits": meta.limits.to_json(),
        "zones": list(meta.zones),
        "start": meta.start,
        "context": meta.context,
        "probes": meta.probes,
        "modules": meta.modules,
        "failures": failures_to_json(meta.failures),
        "memory": [asdict(zone) for zone in meta.memory],
    }


def from_json(data: object) -> Meta:
    """The Meta of a capture, still without sites, caches, tasks and stacks.

    Raises BadInputError where something is missing or of another kind, and for a later version of the format.
    """
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise BadInputError(f"{META} is not of a kmwatch capture")
    version = data.get("version")
    if version != VERSION:
        raise BadInputError(
            f"the capture has version {version!r:.20} of the format, this kmwatch reads {VERSION}: update"
        )
    try:
        host = data["host"]
        cpus = int(host["cpus"])
        if not 0 < cpus <= _MOST_CPUS:
            raise BadInputError(f"{META} has {cpus!r:.40} where a number of CPUs should be")
        return Meta(
            Host(_text(host["hostname"]), _text(host["kernel"]), _text(host["boot_id"]), cpus),
            GfpTable.from_json(data["gfp"]),
            AllocatorLimits.from_json(data["limits"]),
            tuple(_text(name) for name in data["zones"][:_MOST_NAMES]),
            {_text(name): _text(how) for name, how in list(data["probes"].items())[:_MOST_NAMES]},
            _text(data["context"]),
            start=_seconds(data["start"]),
            failures=failures_from_json(data["failures"]),
            memory=zones_from_json(data.get("memory", [])),  # since 0.2
            modules=_modules(data.get("modules", {})),  # since 0.2
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BadInputError(f"{META} lacks something or has it in another form: {error!r:.80}") from error


def _seconds(value: Any) -> float:
    if not 0 <= float(value) <= _LATEST:
        raise BadInputError(f"{META} has {value!r:.40} where a time should be")
    return float(value)


def _modules(told: dict[str, object]) -> dict[str, str]:
    return {_text(name): _text(version) for name, version in list(told.items())[:_MOST_MODULES]}


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > 4096:
        raise BadInputError(f"{META} has {value!r:.40} where a text should be")
    return value
