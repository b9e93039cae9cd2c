"""A process that has imported everything and is forked for every command: importing takes longer than the attacks.

``Warm()`` starts one, with its own environment (a hash seed, say). What is forked runs tools/train.py as it is, one
process or several that find each other as torchrun's would; nobody ends the others when one fails.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

if __name__ == '__main__':  # as the warm process; tests have the path already
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torture.attack import ROOT, environment
from torture.child import forked

TRAIN = ROOT / 'tools' / 'train.py'


@dataclass
class Job:
    """One process: tools/train.py with arguments.

    Args:
        arguments (list): Of the command.
        log (Path): A file for what it says on stdout and stderr.
        rank (int, optional): Of several, started with one request. Defaults to None: it is alone.
        before (str): Python code to run before. Defaults to none.
        folder (Path, optional): Where it runs. Defaults to the repository.
    """

    arguments: list
    log: Path
    rank: int | None = None
    before: str = ''
    folder: Path | None = None


@dataclass
class Ended:
    """How a process ended: ``status`` (minus the signal), ``at`` (the time), and what it ``said``."""

    status: int
    at: float
    said: str = field(repr=False)

    @property
    def errors(self) -> list[str]:
        """list[str]: Its lines that say why it ended."""
        return [line for line in self.said.splitlines() if line.startswith('error: ')]


class Warm:
    """A warm process in an environment of its own."""

    def __init__(self, **changes: str) -> None:
        command = [sys.executable, '-W', 'ignore', __file__]
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        own = environment(CUDA_VISIBLE_DEVICES='', **changes)
        self._process = subprocess.Popen(command, env=own, cwd=ROOT, **pipes)

    def run(self, *jobs: Job, seconds: float = 300, kept_by_first: bool = False) -> list[Ended]:
        """Run processes at the same time and return how each ended.

        Args:
            *jobs (Job): What they are to do.
            seconds (float): After which those left are killed. Defaults to 300.
            kept_by_first (bool): Whether the first of the ranks keeps the store, as with Slurm, not whoever starts
                them, as with torchrun. Defaults to False.
        """
        request = dict(jobs=[asdict(job) for job in jobs], seconds=seconds, kept_by_first=kept_by_first)
        self._process.stdin.write(json.dumps(request, default=str) + '\n')
        self._process.stdin.flush()
        ended = json.loads(self._process.stdout.readline())
        return [Ended(*end, Path(job.log).read_text(errors='replace')) for end, job in zip(ended, jobs, strict=True)]


@cache
def warm() -> Warm:
    """Return the warm process that attacks share."""
    return Warm(PYTHONHASHSEED='0')


def _started(job: dict, ranks: int, port: int, kept_by_first: bool) -> int:
    """Start a job and return its process."""
    place, launcher = {}, []
    if job['rank'] is not None:
        place = dict(RANK=job['rank'], LOCAL_RANK=job['rank'], WORLD_SIZE=ranks)
        place |= dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=port, TORCHELASTIC_USE_AGENT_STORE=not kept_by_first)
        launcher = ['--launcher', 'pytorch']
    Path(job['log']).unlink(missing_ok=True)  # an earlier job's
    words = [TRAIN, *job['arguments'], *launcher]
    return forked(words, job['log'], place, folder=job['folder'], before=job['before'])


def _served(request: dict) -> list[tuple[int, float]]:
    from torch.distributed import TCPStore

    ranks = sum(job['rank'] is not None for job in request['jobs'])
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    own = request['kept_by_first']
    running = {_started(job, ranks, port, own): n for n, job in enumerate(request['jobs'])}  # threads come after
    store = None if own or not ranks else TCPStore('127.0.0.1', port, is_master=True, wait_for_workers=False)
    ended, end = {}, time.monotonic() + request['seconds']
    while running:
        process, status = os.waitpid(-1, os.WNOHANG)
        if process in running:
            ended[running.pop(process)] = (os.waitstatus_to_exitcode(status), time.time())
        elif time.monotonic() > end or (ended and all(_stopped(process) for process in running)):
            for process in running:
                os.killpg(process, signal.SIGKILL)
            end += 60
        else:
            time.sleep(0.02)
    del store
    return [ended[n] for n in sorted(ended)]


def _stopped(process: int) -> bool:
    return Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()[0] == 'T'


def _serve() -> None:
    import torch

    from mmrecast.utils.setup_env import register_all_modules

    torch.set_num_threads(1)
    register_all_modules()
    import tiny  # noqa: F401
    from torture import misdeeds  # noqa: F401

    out, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        print(json.dumps(_served(json.loads(line))), file=out, flush=True)


if __name__ == '__main__':
    _serve()
