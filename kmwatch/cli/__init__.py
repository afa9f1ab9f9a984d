"""The command line: opens a source, runs the pipeline, chooses a view. Heavy imports stand where they are needed."""

from kmwatch.cli import captures, checking, exporting, filling, knowledge, leaks, reporting, serving, top, whatif
from kmwatch.cli.base import cli

__all__ = [
    "captures",
    "checking",
    "cli",
    "exporting",
    "filling",
    "knowledge",
    "leaks",
    "reporting",
    "serving",
    "top",
    "whatif",
]
