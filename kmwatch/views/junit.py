"""A verdict as JUnit XML, the form that nearly every build server shows: a test case for each rule and each number."""

from collections.abc import Collection
from typing import Any
from xml.etree import ElementTree as ET  # it only writes here: nothing foreign is parsed

from kmwatch.findings import RULES, SEVERITIES
from kmwatch.units import printable


def build(data: dict[str, Any], codes: Collection[str]) -> str:
    """The XML of what `kmwatch.views.check.build` made; `codes` are the rules that were asked."""
    numbers = [each for each in data["limits"] if each["unit"] != "findings"]
    cases = [_rule(code, [each for each in data["findings"] if each["rule"] == code]) for code in sorted(codes)]
    suites = ET.Element("testsuites", name="kmwatch")
    _suite(suites, "kmwatch.rules", cases, data)
    if numbers:
        _suite(suites, "kmwatch.budget", [_limit(each) for each in numbers], data)
    ET.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(suites, encoding="unicode")}\n'


def _suite(above: ET.Element, name: str, cases: list[ET.Element], data: dict[str, Any]) -> None:
    failures = sum(case.find("failure") is not None for case in cases)
    counts = {"tests": len(cases), "failures": failures, "errors": 0, "skipped": 0}
    told = {key: str(value) for key, value in counts.items()} | {"time": f"{data['seconds']:.3f}"}
    suite = ET.SubElement(above, "testsuite", {"name": name, **told})
    suite.extend(cases)


def _rule(code: str, found: list[dict[str, Any]]) -> ET.Element:
    """A rule fails where a limit is exceeded that its findings count against; the others are told all the same."""
    case = ET.Element("testcase", classname="kmwatch.rules", name=f"{code} {RULES[code].name}")
    counting = [each for each in found if each["counts"]]
    if counting:
        severity = min((each["severity"] for each in counting), key=SEVERITIES.index)
        head = (
            counting[0]["site"]
            if len(counting) == 1
            else f"{len(counting)} findings, the first at {counting[0]['site']}"
        )
        ET.SubElement(case, "failure", type=severity, message=printable(head)).text = _text(counting)
    if others := [each for each in found if not each["counts"]]:
        ET.SubElement(case, "system-out").text = _text(others)
    return case


def _limit(limit: dict[str, Any]) -> ET.Element:
    case = ET.Element("testcase", classname="kmwatch.budget", name=printable(limit["name"]))
    if limit["over"]:
        told = f"{limit['value']:g} {limit['unit']}, allowed {limit['most']:g}"
        ET.SubElement(case, "failure", type="budget", message=told).text = told
    return case


def _text(found: list[dict[str, Any]]) -> str:
    """A paragraph for each finding. XML 1.0 cannot hold control characters, not even escaped ones."""
    return "\n\n".join("\n".join(printable(line) for line in _lines(each)) for each in found)


def _lines(found: dict[str, Any]) -> list[str]:
    where = f" ({found['file']}:{found['line']})" if found["file"] else ""
    known = ", in the baseline" if found["known"] else ""
    return [f"{found['severity']}{known}: {found['site']}{where}", found["message"], found["advice"]]
