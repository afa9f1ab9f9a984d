"""The report as one HTML file that needs nothing else: no network, no server, no other file."""

from kmwatch.views.page.data import build
from kmwatch.views.page.html import render

__all__ = ["build", "render"]
