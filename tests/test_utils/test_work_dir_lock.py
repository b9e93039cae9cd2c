"""The lock of a work dir: one process at a time, gone with it, in nobody's way where files cannot be locked."""

import errno
import os
import re
import signal
import subprocess
import sys

import pytest

from mmrecast.utils import work_dir_lock
from mmrecast.utils.work_dir_lock import NAME, lock_work_dir

HOLD = """
import os, sys, time
from mmrecast.utils.work_dir_lock import lock_work_dir
lock = lock_work_dir(sys.argv[1])
child = os.fork() if sys.argv[2:] else 1  # a loader process, which outlives it
if child:
    print(child, flush=True)
time.sleep(100)
"""


def hold(folder, *arguments) -> tuple[subprocess.Popen, int]:
    """Start a process that holds the lock; return it and the child it left, 1 for none."""
    words = [sys.executable, '-c', HOLD, str(folder), *arguments]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline())


def test_another_process_is_refused_until_it_is_killed(tmp_path):
    process, child = hold(tmp_path / 'run', 'fork')
    try:
        found = re.escape(f'{tmp_path}/run is in use: process {process.pid} on ') + r'\S+, since [-\d]+ [:\d]+, trains'
        with pytest.raises(BlockingIOError, match=found) as refused:
            lock_work_dir(f'{tmp_path}/run')
        assert '\n' not in str(refused.value) and 'choose another folder' in str(refused.value)
        process.kill()
        process.wait()
        os.kill(child, 0)  # still there, with a copy of the file's handle
        lock = lock_work_dir(f'{tmp_path}/run')
        third = [sys.executable, '-c', HOLD, f'{tmp_path}/run']
        said = subprocess.run(third, stderr=subprocess.PIPE, text=True, timeout=300).stderr.splitlines()[-1]
        assert f'process {lock.pid} on' in said and str(process.pid) not in said
    finally:
        process.kill()
        os.kill(child, signal.SIGKILL)


def test_let_go_and_taken_again(tmp_path):
    lock = lock_work_dir(str(tmp_path))
    assert lock_work_dir(str(tmp_path)) is lock and f'process {os.getpid()} on' in (tmp_path / NAME).read_text()
    del lock
    assert not (tmp_path / NAME).exists()
    process, _ = hold(tmp_path)
    with pytest.raises(BlockingIOError, match=f'process {process.pid}'):
        lock_work_dir(str(tmp_path))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / NAME).exists()
    assert lock_work_dir(str(tmp_path)).pid == os.getpid()


def test_a_child_neither_has_nor_removes_it(tmp_path):
    lock = lock_work_dir(str(tmp_path))
    child = os.fork()
    if not child:
        status = 1
        try:
            lock_work_dir(str(tmp_path))
        except BlockingIOError:
            del lock
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert (tmp_path / NAME).exists() and lock.pid == os.getpid()


def test_a_file_that_its_holder_removes_is_not_taken_for_the_lock(tmp_path, monkeypatch):
    """Opened while another held it, locked when that one had removed it: the lock of no file that others see."""
    opened, path = [], tmp_path / NAME
    real = os.open

    def removed_once(*arguments):
        opened.append(real(*arguments))
        if len(opened) == 1:
            path.unlink()
        return opened[-1]

    monkeypatch.setattr(work_dir_lock.os, 'open', removed_once)
    lock = lock_work_dir(str(tmp_path))
    assert len(opened) == 2 and lock is not None and os.path.samestat(os.fstat(opened[1]), path.stat())


@pytest.mark.parametrize('code', [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_where_files_cannot_be_locked_a_warning_is_all(tmp_path, monkeypatch, code):
    def no_locks(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(work_dir_lock.fcntl, 'lockf', no_locks)
    with pytest.warns(UserWarning, match='cannot be locked .*: see to it that no second run uses'):
        assert lock_work_dir(str(tmp_path)) is None
    assert os.listdir(tmp_path) == []


def test_many_at_once_one_gets_it(tmp_path):
    """Processes that start within moments of each other, each letting go after a while, never hold it together."""
    code = """
import os, sys, time
from mmrecast.utils.work_dir_lock import lock_work_dir
inside, tally, until = os.path.join(sys.argv[1], 'inside'), 0, time.time() + 2
while time.time() < until:
    try:
        lock = lock_work_dir(sys.argv[1])
    except BlockingIOError:
        continue
    os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # raises where another is inside
    os.unlink(inside)
    del lock
    tally += 1
print(tally)
"""
    words = [sys.executable, '-c', code, str(tmp_path)]
    several = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    ended = [process.communicate(timeout=120) for process in several]
    assert [said for _, said in ended] == ['', '', '']
    assert all(int(tally) > 0 for tally, _ in ended)
