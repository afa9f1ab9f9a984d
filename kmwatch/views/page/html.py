"""The page as text: a template, its parts, and the data. It decides nothing."""

import base64
import hashlib
from pathlib import Path
from string import Template
from typing import Any

from kmwatch.views.page import parts
from kmwatch.views.page.packing import packed

_ASSETS = Path(__file__).parent / "assets"
_NAMES = "data words state findings charts timeline flame sizes heat zones sites main"
SCRIPTS = tuple(f"{name}.js" for name in _NAMES.split())
"""The page's own scripts, in the order in which they are put together."""


def render(data: dict[str, Any]) -> str:
    """The whole file. Nothing in it is fetched from anywhere; a browser runs only the two scripts of kmwatch."""
    vendor = asset("vendor.min.js")
    script = '"use strict";\n' + "\n".join(asset(name) for name in SCRIPTS)
    return Template(asset("page.html")).substitute(
        policy=policy(vendor, script),
        title=parts.title(data),
        style=asset("page.css"),
        vendor=vendor,
        script=script,
        data=packed(data),
        verdict=parts.verdict(data),
        findings=parts.findings(data),
        zones=parts.zones(data),
        sites=parts.sites(data),
        trust=parts.trust(data),
        how=parts.how(data, libraries(), asset("LICENSES.txt")),
    )


def libraries() -> list[str]:
    """Name, version and licence of each library in the page, as the head of the bundle tells them."""
    head = asset("vendor.min.js").partition("\n")[0]
    return head.removeprefix("/*! ").partition(". Licence texts")[0].split(", ")


def asset(name: str) -> str:
    """The text of a file that pages are made of."""
    return (_ASSETS / name).read_text(encoding="utf-8")


def policy(*scripts: str) -> str:
    """What a browser may do: run these scripts, or none, and nothing that a name might smuggle in; fetch nothing."""
    digests = (base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
