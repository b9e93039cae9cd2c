"""Suggest what a mistyped name may have meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, candidates: Iterable[str], most: int = 3) -> str:
    """Return ``' (nearest: a, b)'`` for the candidates closest to ``name``, or ``''`` where there are none.

    Args:
        name (str): What was given.
        candidates (Iterable[str]): What exists.
        most (int): How many to list at the most. Defaults to 3.
    """
    known = list(dict.fromkeys(candidates))
    folded = {k.lower(): k for k in known}
    close = [folded[k] for k in get_close_matches(name.lower(), folded, n=most, cutoff=0.5)] or sorted(known)[:most]
    return f' (nearest: {", ".join(close)})' if close else ''
