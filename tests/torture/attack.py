"""What an attack on a promise of docs/reliability.md is, and the commands that attacks run."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TRAIN = [sys.executable, str(ROOT / 'tools' / 'train.py')]


@dataclass(frozen=True)
class Attack:
    """One attack: survived where ``make`` returns, lost where it raises.

    Args:
        kind (str): What is attacked how, for the counts: 'recasting, SIGKILL while a checkpoint is written'.
        make (Callable[[Path], None]): Makes the attack in an empty folder, and asserts what was promised.
        seed (int): What this one draws its moments from, where it draws any. Defaults to 0.
        short (bool): Whether the normal suite makes it, too; that takes seconds. Defaults to False.
    """

    kind: str
    make: Callable[[Path], None]
    seed: int = 0
    short: bool = False


@dataclass(frozen=True)
class Family:
    """The attacks on one promise.

    Args:
        name (str): One word, for ``--only``.
        promise (str): The sentence of docs/reliability.md that they try to break.
        attacks (Sequence[Attack]): All of them.
    """

    name: str
    promise: str
    attacks: Sequence[Attack]


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of a command: one thread, our modules and the tests' importable, ``changes`` made."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / 'tests')])
    return os.environ | dict(OMP_NUM_THREADS='1', PYTHONPATH=paths, PYTHONDONTWRITEBYTECODE='1') | changes


def start(command: Sequence[object], folder: Path, **changes: str) -> subprocess.Popen:
    """Start a command in ``folder``, in a process group of its own, and return it; it says what it says to pipes."""
    words = [str(word) for word in command]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen(words, cwd=folder, env=environment(**changes), start_new_session=True, **pipes)


def finish(process: subprocess.Popen, seconds: float = 300) -> tuple[int, str, str]:
    """Wait for a command; return its status and what it said on stdout and stderr."""
    said, complained = process.communicate(timeout=seconds)
    return process.returncode, said, complained


def command(words: Sequence[object], folder: Path, seconds: float = 300, **changes: str) -> tuple[int, str, str]:
    """Run a command in ``folder``; return its status and what it said on stdout and stderr."""
    return finish(start(words, folder, **changes), seconds)
