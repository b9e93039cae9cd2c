"""A Python file run in a child of a process that has everything imported, as its command would run it."""

import atexit
import os
import runpy
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path


def forked(
    words: Sequence[object],
    log: str | Path,
    changes: Mapping[str, object],
    group: int = 0,
    folder: str | Path | None = None,
    before: str = '',
) -> int:
    """Fork, run a Python file there, and return the child's number; this process must not have started threads.

    Args:
        words (Sequence): The file and its arguments.
        log (str | Path): A file to which what it says on stdout and stderr is appended.
        changes (Mapping): Of the environment.
        group (int): The process group it belongs to. Defaults to 0: one of its own.
        folder (str | Path, optional): Where it runs. Defaults to None: here.
        before (str): Python code to run before. Defaults to none.
    """
    process = os.fork()
    if process:
        os.setpgid(process, group or process)
        return process
    status = 1
    try:
        os.setpgid(0, group)
        said, nothing = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, nothing), (1, said), (2, said)):
            os.dup2(source, target)
        os.environ.update({name: str(value) for name, value in changes.items()})
        if folder is not None:
            os.chdir(folder)
        exec(before, {})
        sys.argv = [str(word) for word in words]
        runpy.run_path(sys.argv[0], run_name='__main__')
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)
