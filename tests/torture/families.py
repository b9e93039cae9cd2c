"""The families of attacks, in the order of docs/reliability.md."""

from torture.attack import Family
from torture.disk import DISK
from torture.wrong_numbers import NUMBERS

FAMILIES: tuple[Family, ...] = (DISK, NUMBERS)
