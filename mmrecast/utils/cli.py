"""What the command lines share: a user's mistake is told in one line."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

MISTAKES = (ValueError, TypeError, KeyError, AttributeError, OSError, ImportError)


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """End the program with status 2 and one line on a mistake made inside; ``MMRECAST_DEBUG=1`` shows the traceback."""
    try:
        yield
    except MISTAKES as error:
        if os.environ.get('MMRECAST_DEBUG'):
            raise
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f'error: {" ".join(str(text).split())}', file=sys.stderr)
        sys.exit(2)
