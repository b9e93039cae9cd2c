"""The families of attacks, in the order of docs/reliability.md."""

from torture.attack import Family
from torture.files import FILES
from torture.fuzz import FUZZ
from torture.mistakes import MADE

FAMILIES: tuple[Family, ...] = (FILES, FUZZ, MADE)
