"""Runs as real processes that start in no time: forked off a server that has everything imported.

The server has started no thread when it forks, and a run goes through the file of its command as that command would::

    forks = server()
    run = forks.start(['tools/train.py', 'config.py'], log)
    os.killpg(run.pids[0], signal.SIGKILL)
"""

import atexit
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == '__main__':  # as the server; tests have the path already
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torture.attack import ROOT, environment
from torture.child import forked


@dataclass
class Run:
    """A command that runs, in one process or in several of one group.

    Args:
        server (Server): Whose children they are.
        pids (list[int]): The processes by rank; the first one's number is the group's.
        log (Path): What they say.
    """

    server: 'Server'
    pids: list[int]
    log: Path

    def status(self) -> list[int | None]:
        """Return the status of every process, minus the signal for one that a signal ended, None while it runs."""
        return self.server.ask(poll=self.pids)

    def wait(self, seconds: float = 1200) -> list[int]:
        """Wait for all processes; return how they ended."""
        until = time.monotonic() + seconds
        while None in (status := self.status()):
            if time.monotonic() > until:
                self.kill()
                raise TimeoutError(f'still running after {seconds} s: {self.log.read_text()[-2000:]}')
            time.sleep(0.005)
        return status

    def wait_for_first(self, seconds: float = 1200) -> list[int]:
        """Wait until one of the processes has ended, and end the others as torchrun would; return how they ended."""
        until = time.monotonic() + seconds
        while set(self.status()) == {None} and time.monotonic() < until:
            time.sleep(0.005)
        return self.kill()

    def kill(self, *ranks: int) -> list[int]:
        """Kill these ranks, then, as torchrun would, the others within a second; without any, all at once."""
        for rank in ranks:
            os.kill(self.pids[rank], signal.SIGKILL)
        if ranks:
            until = time.monotonic() + 1
            while None in self.status() and time.monotonic() < until:
                time.sleep(0.01)
        for pid, status in zip(self.pids, self.status(), strict=True):
            if status is None:
                os.kill(pid, signal.SIGKILL) if ranks else os.killpg(self.pids[0], signal.SIGKILL)
                if not ranks:
                    break
        return self.wait()


class Server:
    """The process that forks runs off."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).resolve())]
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment(CUDA_VISIBLE_DEVICES=''), **pipes)
        atexit.register(self.process.stdin.close)  # at the end of which it ends what it has started, and itself
        assert self.process.stdout.readline() == '"ready"\n'

    def ask(self, **question) -> list:
        """Ask for something, and return the answer."""
        self.process.stdin.write(json.dumps(question) + '\n')
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, words: Sequence[object], log: Path, processes: int = 1, **changes: object) -> Run:
        """Start a Python file with arguments, ``processes`` times over as torchrun would where more than one."""
        ranks = [{}]
        if processes > 1:
            with socket.socket() as free:
                free.bind(('127.0.0.1', 0))
                port = free.getsockname()[1]
            together = dict(WORLD_SIZE=processes, LOCAL_WORLD_SIZE=processes, MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
            ranks = [together | dict(RANK=rank, LOCAL_RANK=rank) for rank in range(processes)]
            words = [*words, '--launcher', 'pytorch']
        ranks = [{name: str(value) for name, value in (rank | changes).items()} for rank in ranks]
        pids = self.ask(words=[str(word) for word in words], log=str(log), ranks=ranks)
        return Run(self, pids, log)


@functools.cache
def server() -> Server:
    """Return this process's server."""
    return Server()


def serve() -> None:
    """Answer questions, a line each."""
    import tiny  # noqa: F401
    import torch
    import torture.moments  # noqa: F401
    from mmengine.config import Config

    from mmrecast.utils.setup_env import register_all_modules

    torch.set_num_threads(1)
    register_all_modules()
    # Formatting a config takes longer than training on a tiny problem.
    Config.pretty_text = property(lambda cfg: '\n'.join(f'{k} = {v!r}' for k, v in cfg.items()))
    started, ended = [], {}
    print('"ready"', flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        if 'poll' in question:
            for pid in set(question['poll']) - set(ended):
                gone, status = os.waitpid(pid, os.WNOHANG)
                if gone:
                    ended[pid] = os.waitstatus_to_exitcode(status)
            print(json.dumps([ended.get(pid) for pid in question['poll']]), flush=True)
            continue
        pids: list[int] = []
        for rank in question['ranks']:
            pids.append(forked(question['words'], question['log'], rank, pids[0] if pids else 0))
        started += pids
        print(json.dumps(pids), flush=True)
    for pid in set(started) - set(ended):
        os.kill(pid, signal.SIGKILL)


if __name__ == '__main__':
    serve()
