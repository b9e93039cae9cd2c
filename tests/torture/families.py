"""The families of attacks, in the order of docs/reliability.md."""

from torture.attack import Family
from torture.files import FILES

FAMILIES: tuple[Family, ...] = (FILES,)
