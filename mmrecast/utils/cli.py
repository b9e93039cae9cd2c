"""What the command lines share: a user's mistake is told in one line."""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.config import DictAction

from mmrecast.utils.disk import DiskError
from mmrecast.utils.mistakes import explain

UNCLEAR = (AttributeError, RuntimeError, AssertionError)
MISTAKES = (ValueError, TypeError, KeyError, OSError, ImportError, FloatingPointError, *UNCLEAR)
STOPS = (DiskError, FloatingPointError)  # why a run that has begun stops, of itself
PACKAGE = Path(__file__).resolve().parent.parent


class KeyValues(DictAction):
    """The argparse action of ``--cfg-options key=value …``; one without a ``=`` is told as argparse tells mistakes."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        for value in values:
            if '=' not in value:
                parser.error(f'{option_string}: key=value expected, got {value!r}')
        super().__call__(parser, namespace, values, option_string)


@contextmanager
def told_in_one_line(*mistakes: type[Exception]) -> Iterator[None]:
    """End the program with status 2 and one line on a mistake made inside; ``MMRECAST_DEBUG=1`` shows the traceback.

    Args:
        *mistakes (type[Exception]): What counts as one. Defaults to ``MISTAKES``.

    An assertion of mmrecast itself is a fault of ours and keeps its traceback; mmengine checks configs by them.
    """
    told = mistakes or MISTAKES
    try:
        yield
    except told as error:
        if os.environ.get('MMRECAST_DEBUG') or _our_fault(error):
            raise
        where = ' (MMRECAST_DEBUG=1 shows where)' if type(error) in UNCLEAR else ''
        sys.stdout.flush()
        print(f'error: {explain(error)}{where}', file=sys.stderr)
        sys.exit(2)


def _our_fault(error: Exception) -> bool:
    if not isinstance(error, AssertionError):
        return False
    return PACKAGE in Path(traceback.extract_tb(error.__traceback__)[-1].filename).resolve().parents
