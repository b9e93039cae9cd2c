"""What dist_*.sh say when a process fails: a line for each that is a cause."""

import json
import logging
import time
from pathlib import Path

import pytest
from torch.distributed import DistNetworkError
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'lib' / 'processes.py'
ARGUMENTS = ('--master_addr=127.0.0.1', '--master_port=29500', '--nproc_per_node=2', 'train.py')


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """Put back what the tool sets for its process."""
    monkeypatch.setenv('TORCH_ELASTIC_SHUTDOWN_TIMEOUT', '5')
    monkeypatch.delenv('MMRECAST_DEBUG', raising=False)
    logger = logging.getLogger('torch.distributed.elastic')
    level = logger.level
    yield
    logger.setLevel(level)


def failure(folder: Path, rank: int, status: int, said: str | None = None) -> ProcessFailure:
    file = folder / f'{rank}.json'
    if said is not None:
        extra = dict(py_callstack='Traceback', timestamp=str(int(time.time())))
        file.write_text(json.dumps(dict(message=dict(message=said, extraInfo=extra))))
    return ProcessFailure(local_rank=rank, pid=100 + rank, exitcode=status, error_file=str(file))


def ended(tool, call, monkeypatch, error: Exception) -> tuple:
    def run(args):
        raise error

    monkeypatch.setattr(tool, 'run', run)
    return call(*ARGUMENTS)


def test_the_killed_one_is_named_and_those_that_ended_by_it_are_not(tool, call, monkeypatch, tmp_path):
    failures = {
        0: failure(tmp_path, 0, 2, 'RunEnded: rank 0 ends: rank 1 is lost'),
        1: failure(tmp_path, 1, -9),
    }
    status, _, said = ended(tool, call, monkeypatch, ChildFailedError('train.py', failures))
    assert status == 1
    assert said == 'error: rank 1 (process 101) was killed by SIGKILL (out of memory? its machine’s log says)\n'


def test_what_a_process_said_is_repeated(tool, call, monkeypatch, tmp_path):
    failures = {1: failure(tmp_path, 1, 1, 'ValueError: two\nlines')}
    _, _, said = ended(tool, call, monkeypatch, ChildFailedError('train.py', failures))
    assert said == 'error: rank 1 (process 101) ended with status 1: ValueError: two lines\n'
    failures = {1: failure(tmp_path, 2, 7)}
    _, _, said = ended(tool, call, monkeypatch, ChildFailedError('train.py', failures))
    assert said == 'error: rank 1 (process 102) ended with status 7\n'


def test_where_all_ended_by_another_the_first_says_why(tool, call, monkeypatch, tmp_path):
    failures = {rank: failure(tmp_path, rank, 3, f'RunEnded: rank {rank} ends: rank 1 hangs') for rank in (0, 1)}
    _, _, said = ended(tool, call, monkeypatch, ChildFailedError('train.py', failures))
    assert said.count('rank 1 hangs') == 1 and said.count('\n') == 1


def test_one_that_torchrun_ended_is_no_cause(tool, call, monkeypatch, tmp_path):
    """A process that computes on is ended when another one has: what that one said says why."""
    failures = {0: failure(tmp_path, 0, -15), 1: failure(tmp_path, 1, 3, 'RunEnded: rank 1 ends: rank 0 hangs')}
    _, _, said = ended(tool, call, monkeypatch, ChildFailedError('train.py', failures))
    assert said == 'error: rank 1 (process 101) ended with status 3: RunEnded: rank 1 ends: rank 0 hangs\n'
    failures[0] = failure(tmp_path, 0, -9)
    failures[0].timestamp += tool.END
    _, _, said = ended(tool, call, monkeypatch, ChildFailedError('train.py', failures))
    assert 'rank 0 hangs' in said and 'SIGKILL' not in said


def test_one_that_was_ended_from_outside_is_the_cause(tool, call, monkeypatch, tmp_path):
    failures = {0: failure(tmp_path, 0, -15), 1: failure(tmp_path, 1, 3, 'RunEnded: rank 1 ends: rank 0 is lost')}
    failures[1].timestamp += 2
    _, _, said = ended(tool, call, monkeypatch, ChildFailedError('train.py', failures))
    assert said == 'error: rank 0 (process 100) was killed by SIGTERM\n'


def test_a_port_that_is_taken(tool, call, monkeypatch):
    error = DistNetworkError('The server socket has failed to listen. port: 29500, code: -98, name: EADDRINUSE')
    status, _, said = ended(tool, call, monkeypatch, error)
    assert status == 2
    assert said == 'error: port 29500 of 127.0.0.1 is taken: give another one, as in PORT=29501 dist_train.sh …\n'
