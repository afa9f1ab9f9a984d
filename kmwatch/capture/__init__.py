"""Captures: directories that keep every event, as docs/capture-format.md describes them."""
