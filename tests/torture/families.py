"""The families of attacks, in the order of docs/reliability.md."""

from torture.attack import Family
from torture.concurrency import CONCURRENCY
from torture.determinism import DETERMINISM
from torture.disk import DISK
from torture.files import FILES
from torture.fuzz import FUZZ
from torture.kill import KILL
from torture.mistakes import MADE
from torture.ranks import RANKS
from torture.wrong_numbers import NUMBERS

FAMILIES: tuple[Family, ...] = (KILL, DISK, NUMBERS, RANKS, FILES, FUZZ, DETERMINISM, MADE, CONCURRENCY)
