"""Suggest what a mistyped name may have meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def closest(name: str, candidates: Iterable[str], most: int = 3, cutoff: float = 0.5) -> list[str]:
    """Return the candidates that look like ``name``, the most alike first; upper and lower case count as one.

    Args:
        name (str): What was given.
        candidates (Iterable[str]): What exists.
        most (int): How many to list at the most. Defaults to 3.
        cutoff (float): How alike they must be, 0 to 1. Defaults to 0.5.
    """
    folded = {k.lower(): k for k in dict.fromkeys(candidates)}
    return [folded[k] for k in get_close_matches(name.lower(), folded, n=most, cutoff=cutoff)]


def nearest(name: str, candidates: Iterable[str], most: int = 3) -> str:
    """Return ``' (nearest: a, b)'`` for the candidates closest to ``name``, or ``''`` where there are none.

    Args:
        name (str): What was given.
        candidates (Iterable[str]): What exists.
        most (int): How many to list at the most. Defaults to 3.
    """
    known = list(candidates)
    close = closest(name, known, most) or sorted(set(known))[:most]
    return f' (nearest: {", ".join(close)})' if close else ''
