"""Whether a dashboard is what Grafana's own types accept.

The SDK's types are generated from the schemas that Grafana publishes. They drop what they do not know, and take any
value for what they know; so what was read is written again and compared, and every value held against its type.
"""

import enum
import json
import types
import typing
from collections.abc import Iterator
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard


def grafana_faults(document: dict[str, Any]) -> list[str]:
    """What the types do not know, and what they know as another type."""
    register_default_plugins()
    return list(_faults(document, Dashboard, document["uid"]))


def _faults(value: Any, hint: Any, where: str) -> Iterator[str]:
    """Where a value is not of its type, all the way down."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(value, dict) and hasattr(hint, "from_json"):  # the document; and members that they forget to read
        raw, value = value, hint.from_json(value)
        if json.loads(json.dumps(value, cls=JSONEncoder)) != raw:
            yield f"{where}: not what was read"
    if origin in (typing.Union, types.UnionType):
        yield from _best(value, inside, where)
    elif origin is typing.Literal or (isinstance(hint, type) and issubclass(hint, enum.Enum)):
        if value not in (inside or [each.value for each in hint]):
            yield f"{where}: {value!r} is no {getattr(hint, '__name__', inside)}"
    elif not isinstance(value, _classes(origin or hint)) or (hint in (int, float) and isinstance(value, bool)):
        yield f"{where}: {value!r} is no {getattr(origin or hint, '__name__', hint)}"
    else:
        for name, member, its_hint in _members(value, inside):
            yield from _faults(member, its_hint, f"{where}.{name}")


def _best(value: Any, hints: tuple[Any, ...], where: str) -> list[str]:
    """The faults by the one of several types that it comes nearest to."""
    tries = [list(_faults(value, hint, where)) for hint in hints]
    return [] if [] in tries else max(tries, key=lambda faults: len(faults[0].partition(":")[0]))


def _classes(hint: Any) -> type | tuple[type, ...]:
    if hint is float:
        return int, float
    return hint if isinstance(hint, type) else object  # Any, and what is generic


def _members(value: Any, inside: tuple[Any, ...]) -> Iterator[tuple[Any, Any, Any]]:
    """What it consists of: name, value, type."""
    if isinstance(value, dict | list) and inside:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        yield from ((name, member, inside[-1]) for name, member in pairs)
    elif type(value).__module__.startswith(Dashboard.__module__.partition(".")[0]):
        hints = typing.get_type_hints(type(value))
        yield from ((name, member, hints.get(name, object)) for name, member in vars(value).items())
