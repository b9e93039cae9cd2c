"""Read a hostile file within bounds of time and memory."""

import os
import resource
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS = 240  # for one reading on a busy machine; a pipe would be waited for longer


@contextmanager
def in_time(seconds: int = SECONDS) -> Iterator[None]:
    """Raise TimeoutError where what is inside takes longer."""

    def late(*_: object) -> None:
        raise TimeoutError(f'not done after {seconds} s')

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def apart(action: Callable[[], object], more: int) -> None:
    """Run ``action`` in a fork that may take ``more`` bytes beyond what the process has; raise what went wrong there.

    What it took at the most in memory must stay below 400 MB, too: it harms nobody to be promised memory, but to
    fill it does.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = b''
        try:
            os.close(reading)
            pages = int(Path('/proc/self/statm').read_text().split()[0])
            limit = pages * os.sysconf('SC_PAGE_SIZE') + more
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            action()
            taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            if taken > 400_000:
                said = f'it took {taken >> 10} MB'.encode()
        except BaseException:
            said = traceback.format_exc(limit=-4).encode()
        os.write(writing, said[-60_000:])
        os._exit(0)
    os.close(writing)
    with open(reading, 'rb') as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, f'the process ended with {status}'
    assert not said, said.decode()
