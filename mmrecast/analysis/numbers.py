"""Write numbers for people: short counts, means with their spread, and what a change amounts to."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

NOTHING = '–'
MINUS = '−'


@dataclass(frozen=True)
class Stat:
    """A mean and, of two values or more, the sample standard deviation."""

    mean: float
    sd: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float | None]) -> 'Stat | None':
        """Return the statistic of the values that are there, or None if none is."""
        known = [v for v in values if v is not None]
        return cls(mean(known), stdev(known) if len(known) > 1 else None, len(known)) if known else None

    def text(self, digits: int = 2, sign: bool = False) -> str:
        """Return ``'7.31 ± 0.12'``; ``sign`` writes a plus before positive means."""
        spread = '' if self.sd is None else f' ± {self.sd:.{digits}f}'
        number = f'{self.mean:{"+" if sign else ""},.{digits}f}'
        if float(number.replace(',', '')) == 0:
            number = f'{0:.{digits}f}'
        return number.replace('-', MINUS) + spread


def short(count: float | None) -> str:
    """Return a count with three or four significant digits: ``412.8 k``, ``61.78 M``, ``4.09 G``."""
    if count is None:
        return NOTHING
    for size, unit, digits in ((1e9, 'G', 2), (1e6, 'M', 2), (1e3, 'k', 1)):
        if abs(count) >= size:
            return f'{count / size:.{digits}f} {unit}'
    return f'{count:.0f}'


def milliseconds(value: float | None) -> str:
    """Return three significant digits: ``'0.412'``, ``'2.80'``, ``'112'``."""
    return NOTHING if value is None else f'{value:#.3g}'.rstrip('.') if value < 1000 else f'{value:,.0f}'


def times(factor: float | None) -> str:
    """Return ``'2.05x'``, with one digit from ten on."""
    return NOTHING if factor is None else f'{factor:.{1 if factor >= 9.95 else 2}f}x'


def compared(before: float, after: float, less: str, more: str) -> str | None:
    """Say how many times less or more ``after`` is than ``before``, or None where that is nothing or 1.00.

    >>> compared(200, 100, 'fewer weights', 'more weights')
    '2.00x fewer weights'
    """
    if before <= 0 or after <= 0 or times(max(before, after) / min(before, after)) == times(1):
        return None
    return f'{times(before / after)} {less}' if after <= before else f'{times(after / before)} {more}'


def duration(seconds: float) -> str:
    """Return seconds as ``'48 s'``, ``'12.5 min'`` or ``'2.31 h'``."""
    if seconds < 90:
        return f'{seconds:.0f} s'
    return f'{seconds / 60:.1f} min' if seconds < 5400 else f'{seconds / 3600:.2f} h'


def shape_text(shape: Sequence[int]) -> str:
    """Return ``'16×32×32'``."""
    return '×'.join(str(s) for s in shape)
