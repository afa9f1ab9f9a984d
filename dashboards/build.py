"""Write the dashboards: `python -m dashboards.build`. tests/unit/test_dashboards.py fails while the files differ."""

import sys
from pathlib import Path

from dashboards import atomic, itself, large, overview, waste, zones
from dashboards.grafana import render

HERE = Path(__file__).resolve().parent
BOARDS = (overview.BOARD, waste.BOARD, atomic.BOARD, large.BOARD, zones.BOARD, itself.BOARD)
"""Every dashboard, in the order in which one reads them."""


def files() -> dict[str, str]:
    """Each dashboard's text by the name of its file."""
    return {f"{board.uid}.json": render(board) for board in BOARDS}


def main() -> None:
    """Write the files that differ, and say which."""
    for name, text in files().items():
        path = HERE / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"dashboards/{name} written\n")


if __name__ == "__main__":
    main()
