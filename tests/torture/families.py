"""The families of attacks, in the order of docs/reliability.md."""

from torture.attack import Family
from torture.determinism import DETERMINISM
from torture.ranks import RANKS

FAMILIES: tuple[Family, ...] = (RANKS, DETERMINISM)
