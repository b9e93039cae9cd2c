"""The families of attacks, in the order of docs/reliability.md."""

from torture.attack import Family
from torture.concurrency import CONCURRENCY
from torture.kill import KILL

FAMILIES: tuple[Family, ...] = (KILL, CONCURRENCY)
