"""The families of attacks, in the order of docs/reliability.md."""

from torture.attack import Family

FAMILIES: tuple[Family, ...] = ()
