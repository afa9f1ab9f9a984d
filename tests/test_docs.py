"""What the documents say of the code is what the code says: pages are generated, lists complete, links alive."""

import re
import tomllib
from pathlib import Path

import pytest

from benchmarks import harness
from kmwatch import __version__, terms
from kmwatch.cli import cli
from kmwatch.findings import RULES
from kmwatch.metrics import METRICS
from kmwatch.schema import Kind
from kmwatch.sources.probes import PROBES
from kmwatch.views.export.formats import FORMATS
from scripts import generate_docs
from tests.test_house import project_files

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE_BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Homes and scratch directories of one machine; addresses of one boot.
ONE_MACHINE = re.compile(r"/home/\w|/root/|/tmp/\w|\b(?:0x)?ffff[0-9a-f]{12}\b")


def documents() -> list[Path]:
    found = [path for path in project_files() if path.suffix == ".md"]
    assert len(found) > len(generate_docs.PAGES)
    return found


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", CODE_BLOCK.sub("", text), re.MULTILINE)
    return {generate_docs.anchor(heading.replace("`", "")) for heading in headings}


def dead_links(path: Path) -> list[str]:
    """Relative links that lead nowhere: no such file, or no such heading in it."""
    dead = []
    for target in LINK.findall(CODE_BLOCK.sub("", path.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists() or (anchor and anchor not in anchors(file.read_text())):
            dead.append(target)
    return dead


@pytest.mark.parametrize("name", generate_docs.PAGES)
def test_a_generated_page_is_what_the_code_says_now(name: str) -> None:
    written = (ROOT / "docs" / name).read_text(encoding="utf-8")

    assert written == generate_docs.PAGES[name](), f"docs/{name} is old: run scripts/generate_docs.py"


def test_the_generated_pages_name_everything() -> None:
    """Otherwise a generator that skips something would be equal to its own omission."""
    pages = {name: make() for name, make in generate_docs.PAGES.items()}
    assert [rule.code for rule in RULES.values() if f"\n### {rule.code} {rule.name}\n" not in pages["rules.md"]] == []
    assert [
        name for name in cli.commands if f"\n## {name}\n\n```text\nUsage: kmwatch {name} " not in pages["commands.md"]
    ] == []
    assert [kind for kind in Kind if f"\n| `{kind.name.lower()}` | " not in pages["observations.md"]] == []
    assert [
        probe for probe in PROBES if f"\n| `{probe.category}:{probe.event}` | " not in pages["observations.md"]
    ] == []
    assert [each.full for each in METRICS.values() if f"\n| `{each.full}` | " not in pages["metrics.md"]] == []
    assert [name for name in terms.TERMS if f"\n| `{name}` | " not in pages["terms.md"]] == []
    assert [name for name in FORMATS if f"\n| `{name}` | " not in pages["exports.md"]] == []
    assert [each.title for each in harness.results() if f"\n## {each.title}\n" not in pages["performance.md"]] == []


@pytest.mark.parametrize("name", generate_docs.PAGES)
def test_a_generated_page_has_whole_tables_and_says_that_it_is_generated(name: str) -> None:
    text = generate_docs.PAGES[name]()
    assert text.startswith("# ")
    assert generate_docs.NOTICE in text
    assert text.endswith("\n")
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(columns) == 1, table


def test_the_generator_writes_what_differs_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate_docs, "DOCS", tmp_path / "docs")

    generate_docs.main()
    assert capsys.readouterr().out == "".join(f"docs/{name} written\n" for name in generate_docs.PAGES)
    assert {path.name: path.read_text() for path in (tmp_path / "docs").iterdir()} == {
        name: make() for name, make in generate_docs.PAGES.items()
    }

    (tmp_path / "docs" / "rules.md").write_text("old")
    generate_docs.main()
    assert capsys.readouterr().out == "docs/rules.md written\n"


def test_markdown_keeps_the_kernels_names() -> None:
    assert generate_docs._text("with __GFP_HIGH|__GFP_IO, by vfree() or a*b < c, see /proc/x") == (
        "with `__GFP_HIGH|__GFP_IO`, by `vfree()` or a\\*b &lt; c, see /proc/x"
    )
    assert generate_docs._text("`sysctl vm.min_free_kbytes` raises GFP_ATOMIC") == (
        "`sysctl vm.min_free_kbytes` raises `GFP_ATOMIC`"
    )
    assert generate_docs._table(("a",), [("x|y",)]) == "| a |\n| --- |\n| x\\|y |"


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    assert dead_links(path) == []


def test_a_dead_link_is_seen(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# A `heading` here\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[gone](gone.md) [here](other.md) [there](other.md#a-heading-here) [no](other.md#nothing) [own](#x)\n"
        "[web](https://example.org/x)\n```text\n[not a link](nowhere)\n```\n"
    )

    assert dead_links(page) == ["gone.md", "other.md#nothing", "#x"]


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_document_shows_a_place_on_one_machine(path: Path) -> None:
    assert ONE_MACHINE.findall(path.read_text()) == []


def test_the_readme_begins_with_what_to_type_and_names_every_command() -> None:
    text = (ROOT / "README.md").read_text()
    blocks = CODE_BLOCK.findall(text)

    assert blocks
    assert "make demo" in blocks[0]
    assert [name for name in cli.commands if not re.search(rf"kmwatch {name}\b", text)] == []
    assert re.findall(r"@[A-Z]+@", text) == []  # what is to be replaced by real output


def test_the_version_is_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    changes = re.findall(r"^## \[?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert project["version"] == __version__
    assert __version__ in changes


def test_pictures_are_small() -> None:
    """A checkout carries each version of them for ever."""
    sizes = {path.name: path.stat().st_size for path in (ROOT / "docs").iterdir() if path.suffix in (".png", ".svg")}

    assert {"top.svg", "report-light.png", "report-dark.png"} <= sizes.keys()
    assert {name: size for name, size in sizes.items() if size > 250_000} == {}
