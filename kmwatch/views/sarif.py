"""A verdict as SARIF 2.1.0, the form in which code hosts and editors take what a checker found."""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kmwatch import __version__
from kmwatch.findings import RULES, RUN, Rule
from kmwatch.gate.places import KERNEL
from kmwatch.units import printable

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
FINGERPRINT = "ruleSymbolModule/v1"

_LEVELS = {"error": "error", "warning": "warning", "notice": "note"}


def build(data: dict[str, Any], codes: Collection[str]) -> dict[str, Any]:
    """A SARIF log of what `kmwatch.views.check.build` made; `codes` are the rules that were asked."""
    rules = [RULES[code] for code in sorted(codes)]
    numbers = {rule.code: at for at, rule in enumerate(rules)}
    driver = {
        "name": "kmwatch",
        "version": __version__,
        "semanticVersion": __version__,
        "rules": [_rule(each) for each in rules],
    }
    notes = [{"level": "note", "message": {"text": plain(each)}} for each in data["notes"]]
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": notes}],
        "results": [
            _result(each, numbers[each["rule"]], compared=data["baseline"] is not None) for each in data["findings"]
        ],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(rule: Rule) -> dict[str, Any]:
    """A rule with its page: the first paragraph in short, all of it as help."""
    page = rule.paragraphs
    return {
        "id": rule.code,
        "name": rule.name,
        "shortDescription": {"text": plain(rule.summary)},
        "fullDescription": {"text": plain(" ".join(page[:2]))},
        "help": {"text": plain("\n\n".join(page))},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
    }


def _result(found: dict[str, Any], number: int, *, compared: bool) -> dict[str, Any]:
    result = {
        "ruleId": found["rule"],
        "ruleIndex": number,
        "level": _LEVELS[found["severity"]],
        "message": {"text": plain(f"{found['site']}: {found['message']}. What to do: {found['advice']}.")},
        "locations": [_location(found)] if found["site"] != RUN else [],
        "partialFingerprints": {FINGERPRINT: _fingerprint(found)},
        "properties": {name: found[name] for name in ("site", "confidence", "evidence")},
    }
    if compared:
        result["baselineState"] = "unchanged" if found["known"] else "new"
    if found["known"]:
        result["suppressions"] = [{"kind": "external", "justification": "it is in the baseline"}]
    return result


def _location(found: dict[str, Any]) -> dict[str, Any]:
    """The function and its module; file and line where debug information tells them."""
    # A cache, or the page allocator as a whole, is no function; a function's name has no space.
    function = {"name": found["symbol"], "kind": "resource" if " " in found["symbol"] else "function"}
    module = {"name": found["module"] or KERNEL, "kind": "module"}
    location: dict[str, Any] = {"logicalLocations": [function, module]}
    if found["file"]:
        location["physicalLocation"] = {
            "artifactLocation": {"uri": _uri(found["file"])},
            "region": {"startLine": max(found["line"], 1)},
        }
    return location


def _uri(file: str) -> str:
    path = Path(file)
    return path.as_uri() if path.is_absolute() else quote(file)


def _fingerprint(found: dict[str, Any]) -> str:
    """The same for every finding of a rule in a function, whatever its address, offset and numbers."""
    identity = [found[name] for name in ("rule", "symbol", "module")]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def plain(text: str) -> str:
    """Text that no viewer takes for a link or a placeholder, nor a terminal for a command; paragraphs stay."""
    shown = "\n\n".join(printable(part) for part in text.split("\n\n"))
    return shown.replace("{", "{{").replace("}", "}}").replace("](", "] (")
