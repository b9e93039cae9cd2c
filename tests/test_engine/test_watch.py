"""What processes conclude from each other's signs; real ones are attacked in tests/torture/ranks.py."""

import json

import pytest
import torch.distributed as torch_dist

from mmrecast.engine import watch as module
from mmrecast.engine.watch import RunEnded, Watch, described, enter_watch, told_to_others, waits_for_others

QUIET = dict(count=1, inside=True, idle=0.0, at='f (a.py:1)', waits=False, host='h', pid=1)


class Ends(Exception):
    """In the place of the end of the process."""


@pytest.fixture
def watch(monkeypatch):
    """A watch of rank 0 of three, on a clock of the test's own, that ends by :class:`Ends`."""

    def end(self, said):
        raise Ends(said)

    clock = [1000.0]
    monkeypatch.setattr(module.time, 'monotonic', lambda: clock[0])
    monkeypatch.setattr(Watch, '_end', end)
    monkeypatch.setattr(module, 'GRACE', 0)
    monkeypatch.setattr(module, '_watches', iter(range(9)))
    watch = Watch(torch_dist.HashStore(), 0, 3, patience=40)
    watch._activity.seen = lambda: True
    watch.clock = clock
    return watch


def rounds(watch, seconds: int, *others: dict) -> None:
    """Let ``seconds`` pass, in which the other processes give these signs (none where it is None)."""
    for _ in range(seconds):
        watch.clock[0] += 1
        for rank, sign in enumerate(others, 1):
            if sign is not None:
                idle = sign['idle'] + 1 if sign['idle'] else 0.0
                sign |= dict(count=sign['count'] + 1, idle=idle)
                watch._store.set(f'sign{rank}', json.dumps(sign))
        watch._round()


def test_nobody_ends_while_one_works(watch):
    """Others wait for it longer than the patience is, and one that has left may do what it likes."""
    waiting, left = dict(QUIET, idle=0.1, waits=True), dict(QUIET, idle=0.1, inside=False)
    rounds(watch, 100, waiting, left)
    assert watch.verdict() is None


def test_one_that_does_nothing_hangs(watch):
    hanging = dict(QUIET, idle=0.1)
    rounds(watch, 39, hanging, dict(QUIET))
    with pytest.raises(Ends, match=r'rank 1 hangs: it has done nothing for 40 s in f \(a.py:1\)'):
        rounds(watch, 2, hanging, dict(QUIET))


def test_one_that_gives_no_sign_is_lost(watch):
    sign = dict(QUIET)
    rounds(watch, 3, dict(QUIET), sign)
    with pytest.raises(Ends, match=r'rank 2 is lost: no sign of it for 40 s; it was in f \(a.py:1\), process 1 of h'):
        rounds(watch, 42, dict(QUIET), None)
    assert watch.silent(4) == [2]


def test_all_that_wait_for_each_other_hang(watch, monkeypatch):
    monkeypatch.setattr(module, 'waits_for_others', lambda frame: True)
    watch._activity.seen = lambda: False
    waiting = [dict(QUIET, idle=0.1, waits=True) for _ in range(2)]
    with pytest.raises(Ends, match='all processes have waited for each other for 40 s: rank 0 in .*, rank 1 in f'):
        rounds(watch, 60, *waiting)


def test_a_process_that_was_stopped_itself_lays_it_on_nobody(watch):
    rounds(watch, 3, dict(QUIET), dict(QUIET))
    watch.clock[0] += 3600
    watch._round()
    assert watch.verdict() is None and watch.silent(4) == []


def test_the_first_verdict_counts(watch):
    assert watch.say('rank 1 failed: ValueError: a') == watch.say('rank 2 is lost') == 'rank 1 failed: ValueError: a'
    with pytest.raises(Ends, match='rank 1 failed: ValueError: a'):
        rounds(watch, 1, dict(QUIET), dict(QUIET))


@pytest.fixture
def alive(watch, monkeypatch):
    """The watch as the one of this process."""
    monkeypatch.setattr(watch, 'is_alive', lambda: True)
    monkeypatch.setattr(module, '_watch', watch)
    monkeypatch.setattr(module.time, 'sleep', lambda seconds: watch.clock.__setitem__(0, watch.clock[0] + seconds))
    return watch


def test_a_mistake_is_told_to_others(alive):
    with pytest.raises(ValueError, match='no such'), told_to_others():
        raise ValueError('no such\nthing')
    assert alive.verdict() == 'rank 0 failed: ValueError: no such thing' and not alive.inside


def test_a_broken_connection_is_laid_on_who_broke_it(alive):
    broken = '[../gloo/transport/tcp/pair.cc:538] Connection closed by peer'
    alive._heard[1] = alive.clock[0] - 5
    with pytest.raises(RunEnded, match='rank 0 ends: rank 1 is lost: killed, or its machine is gone; go on with'):
        with told_to_others():
            raise RuntimeError(broken)


def test_a_broken_connection_of_a_failed_process(alive):
    alive.say('rank 2 failed: OSError: disk full')
    with pytest.raises(RunEnded, match='rank 0 ends: rank 2 failed: OSError: disk full'), told_to_others():
        raise RuntimeError('NCCL error')


def test_a_broken_connection_of_nobody(alive, monkeypatch):
    monkeypatch.setattr(alive, 'silent', lambda seconds: [])
    with pytest.raises(RunEnded, match=r'a connection to another process broke \(gloo: a\)'), told_to_others():
        raise RuntimeError('gloo: a\nb')


def test_the_store_goes_with_who_kept_it(alive, monkeypatch):
    def gone(*args):
        raise RuntimeError('failed to recv, got 0 bytes')

    monkeypatch.setattr(alive, 'verdict', gone)
    with pytest.raises(RunEnded, match=r'rank 0 ends: whoever keeps the store of all processes .rank 0, or torchrun.'):
        with told_to_others():
            raise RuntimeError('gloo')
    monkeypatch.setattr(alive, '_round', gone)
    monkeypatch.setattr(module, 'PERIOD', 0)
    alive.inside = True
    alive._over.clear()
    with pytest.raises(Ends, match='whoever keeps the store'):
        alive.run()


def test_without_other_processes_mistakes_are_themselves():
    with pytest.raises(RuntimeError, match='^gloo$'), told_to_others():
        raise RuntimeError('gloo')


def test_a_workers_mistake_is_its_own():
    text = 'Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  x\n'
    assert described(ValueError(f'{text}ValueError: bad image\n')) == (
        'ValueError: bad image (in a worker of the data loader)'
    )


def test_who_waits_for_others():
    import sys

    assert not waits_for_others(sys._getframe()) and not waits_for_others(None)
    code = compile('import sys\ndef barrier():\n    return sys._getframe()\nframe = barrier()', 'x', 'exec')
    names = dict(__name__='torch.distributed.distributed_c10d')
    exec(code, names)
    assert waits_for_others(names['frame'])


@pytest.mark.parametrize('patience', [True, -1, '40', float('inf'), float('nan')])
def test_patience_is_a_number_of_seconds(patience):
    with pytest.raises(ValueError, match='env_cfg: patience must be a number of seconds of at least 0, got'):
        enter_watch(patience)
