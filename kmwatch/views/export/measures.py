"""What the forms call the measures of a ledger, in a module of its own: the command line needs no more to start."""

WORDS = ("allocated", "requested", "wasted", "count", "failures", "opportunistic_failures")
"""Bytes without `bytes_`; viewers open with the first."""
