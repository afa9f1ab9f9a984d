"""What kmwatch knows about flags, allocators and the words around them: data, no behaviour."""

from kmwatch.terms.actions import ACTIONS
from kmwatch.terms.allocators import ALLOCATORS
from kmwatch.terms.composites import COMPOSITES
from kmwatch.terms.concepts import CONCEPTS
from kmwatch.terms.history import HISTORY
from kmwatch.terms.model import Allocator, Concept, Flag
from kmwatch.terms.placement import PLACEMENT
from kmwatch.terms.reclaim import RECLAIM

MODIFIERS: dict[str, Flag] = {flag.name: flag for flag in (*PLACEMENT, *RECLAIM, *ACTIONS)}
COMBINATIONS: dict[str, Flag] = {flag.name: flag for flag in COMPOSITES}
HISTORICAL: dict[str, Flag] = {flag.name: flag for flag in HISTORY}
FLAGS: dict[str, Flag] = COMBINATIONS | MODIFIERS | HISTORICAL

Term = Flag | Allocator | Concept

TERMS: dict[str, Term] = {
    **FLAGS,
    **{entry.name: entry for entry in ALLOCATORS},
    **{entry.name: entry for entry in CONCEPTS},
}
ALIASES: dict[str, str] = {alias: entry.name for entry in (*ALLOCATORS, *CONCEPTS) for alias in entry.aliases}

__all__ = [
    "ALIASES",
    "COMBINATIONS",
    "FLAGS",
    "HISTORICAL",
    "MODIFIERS",
    "TERMS",
    "Allocator",
    "Concept",
    "Flag",
    "Term",
]
