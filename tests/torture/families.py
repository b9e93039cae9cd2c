"""The families of attacks, in the order of docs/reliability.md."""

from torture.attack import Family
from torture.disk import DISK

FAMILIES: tuple[Family, ...] = (DISK,)
