"""Two runs at once: in one work dir, side by side, beside a test of the same dir, or after the same download."""

import functools
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from torture.attack import ROOT, Attack, Family, environment
from torture.forks import Run, server
from torture.kill import Victim

FETCH = """
import sys
from pathlib import Path
from mmrecast.datasets.download import download
download(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
"""


def wait_for(victim: Victim, run: Run, phase: str) -> None:
    """Wait until a run that goes on has come to a phase: we may look so late that it is behind it already."""
    while phase not in [name for name, *_ in victim.timeline()]:
        assert None in run.status(), run.log.read_text()[-2000:]
        time.sleep(0.002)
    assert None in run.status(), run.log.read_text()[-2000:]


def assert_refused(run: Run, victim: Victim, holder: int) -> None:
    """Assert that every process of a run ended with one line that names the holder of the work dir."""
    assert run.wait() == [2] * victim.processes, run.log.read_text()[-2000:]
    lines = [line for line in run.log.read_text().splitlines() if line.startswith('error: ')]
    assert len(lines) == victim.processes
    assert all(f'{victim.work_dir} is in use: process {holder} on ' in line for line in lines), lines


def second_is_refused(problem: str, processes: int, kind: str, seed: int, folder: Path) -> None:
    """Start a run where one trains, at a random moment, afresh or to go on; the first ends as if alone."""
    draw, first = random.Random(f'{kind} {seed}'), Victim(folder / 'first', problem, processes)
    run = first.start()
    wait_for(first, run, draw.choice(['boundary', 'recast', 'finetune', 'checkpoint']))
    told = first.phases
    resume = (first.work_dir / 'last_checkpoint').exists() and draw.random() < 0.5
    os.killpg(run.pids[0], signal.SIGSTOP)  # so that it is there as long as the second takes to start
    try:
        second = first.start(resume=resume)
        assert_refused(second, first, run.pids[0])
    finally:
        os.killpg(run.pids[0], signal.SIGCONT)
    assert run.wait() == [0] * processes, run.log.read_text()[-2000:]
    assert told.exists() and not first.phases.exists()  # the second did not come to train
    first.assert_as_whole()
    assert len([path for path in first.work_dir.iterdir() if path.is_dir() and path.name[:8].isdigit()]) == 1


def at_the_same_moment(kind: str, seed: int, folder: Path) -> None:
    """Start two at once in one dir: one trains, or both do one after the other, and the end is that of one alone."""
    both = Victim(folder / 'both', 'recasting')
    runs = [both.start(resume=False) for _ in range(3)]
    ended = [run.wait()[0] for run in runs]
    assert 0 in ended and set(ended) <= {0, 2}, [run.log.read_text()[-1000:] for run in runs]
    for run, status in zip(runs, ended, strict=True):
        assert status == 0 or 'is in use: ' in run.log.read_text()
    both.assert_as_whole()


def side_by_side(kind: str, seed: int, folder: Path) -> None:
    """Start several in dirs of their own, of one config: each ends as if alone."""
    victims = [Victim(folder / str(number), 'recasting') for number in range(3)]
    runs = [victim.start() for victim in victims]
    assert [run.wait() for run in runs] == [[0]] * 3, [run.log.read_text()[-1000:] for run in runs]
    for victim in victims:
        victim.assert_as_whole()


def looked_at(kind: str, seed: int, folder: Path) -> None:
    """Test, compare and export from a dir while it trains; each says its result or one line, and it ends as alone."""
    draw, victim = random.Random(f'{kind} {seed}'), Victim(folder / 'victim', 'recasting')
    run, number = victim.start(), 0
    wait_for(victim, run, draw.choice(['recast', 'finetune']))
    while None in run.status() and number < 6:
        latest = victim.work_dir / 'last_checkpoint'
        checkpoint = victim.work_dir / Path(latest.read_text()).name if latest.exists() else 'none.pth'
        words = draw.choice([
            ['tools/test.py', victim.config, checkpoint, '--work-dir', victim.work_dir],
            ['tools/export_student.py', victim.config, checkpoint, folder / 'student.pth'],
            ['tools/compare.py', victim.work_dir, '--out', folder / 'compared'],
        ])  # fmt: skip
        other = server().start(words, folder / f'{number}.log')
        status, said, number = other.wait(), other.log.read_text(), number + 1
        assert status == [0] or (status == [2] and 'rror: ' in said and 'Traceback' not in said), said[-2000:]
    assert run.wait() == [0], run.log.read_text()[-2000:]
    victim.assert_as_whole()


def loaders_left(kind: str, seed: int, folder: Path) -> None:
    """Kill a run, but not the processes that load its data: they do not keep it from going on at once."""
    draw, victim = random.Random(f'{kind} {seed}'), Victim(folder / 'victim', 'recasting with loaders')
    run = victim.start()
    wait_for(victim, run, 'recast')
    time.sleep(draw.uniform(0, 0.05))
    while not (children := [pid for pid, parent in parents().items() if parent == run.pids[0]]):  # between epochs
        assert None in run.status(), run.log.read_text()[-2000:]
    os.kill(run.pids[0], signal.SIGKILL)
    assert run.wait() == [-signal.SIGKILL] and children
    again = victim.start()
    assert again.wait() == [0], again.log.read_text()[-2000:]
    victim.assert_as_whole()


def parents() -> dict[int, int]:
    """Return the parent of every process that has not ended."""
    found = {}
    for path in Path('/proc').glob('[0-9]*/stat'):
        with suppress(OSError):  # it has ended meanwhile
            state, parent, *_ = path.read_text().rpartition(')')[2].split()
            if state != 'Z':
                found[int(path.parent.name)] = int(parent)
    return found


def launcher_killed(kind: str, seed: int, folder: Path) -> None:
    """Kill torchrun, and with seed 1 one of its processes first; those that train on keep others out until they end."""
    victim = Victim(folder / 'victim', 'recasting', processes=2)
    words = ['bash', ROOT / 'tools' / 'dist_train.sh', victim.config, 2, '--work-dir', victim.work_dir]
    changes = dict(PYTHON=sys.executable, PORT=str(20000 + os.getpid() % 20000), CUDA_VISIBLE_DEVICES='')
    with open(folder / 'torchrun.log', 'w') as log:
        told = dict(TORTURE_PHASES=str(victim.phases))
        given = dict(cwd=folder, env=environment(**changes, **told), stdout=log, stderr=log, start_new_session=True)
        launcher = subprocess.Popen([str(word) for word in words], **given)
    workers: list[int] = []
    try:
        while list(victim.timeline())[-1][0] != 'recast':
            assert launcher.poll() is None, (folder / 'torchrun.log').read_text()[-2000:]
            time.sleep(0.01)
        workers = [pid for pid, parent in parents().items() if parent == launcher.pid]
        assert len(workers) == 2
        if seed:
            os.kill(workers[0], signal.SIGKILL)
            assert launcher.wait(1200) != 0
        else:
            for pid in workers:
                os.kill(pid, signal.SIGSTOP)
            launcher.kill()
            launcher.wait()
            refused = victim.start()
            assert refused.wait() == [2, 2] and 'is in use: process ' in refused.log.read_text()
    finally:
        launcher.kill()
        for pid in workers:
            if parents().get(pid) is not None:
                os.kill(pid, signal.SIGKILL)
    while any(pid in parents() for pid in workers):
        time.sleep(0.01)
    victim.finish()
    victim.assert_as_whole()


@contextmanager
def published(content: bytes, seconds: float) -> Iterator[str]:
    """Serve some bytes on loopback, within so many seconds; yields their address."""

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header('Content-Length', str(len(content)))
            self.end_headers()
            size = len(content) // 20
            for begin in range(0, len(content), size):
                try:
                    self.wfile.write(content[begin : begin + size])
                except OSError:  # whom it is for was killed
                    return
                time.sleep(seconds / 20)

        def log_message(self, *_) -> None:
            pass

    with ThreadingHTTPServer(('127.0.0.1', 0), Slow) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{httpd.server_port}/data.tar.gz'
        httpd.shutdown()


def downloads(killed: int, kind: str, seed: int, folder: Path) -> None:
    """Fetch one file by several processes at once, of which some are killed; it is whole whenever it is there."""
    draw = random.Random(f'{kind} {seed}')
    content, script, path = draw.randbytes(30_000_000), folder / 'fetch.py', folder / 'data' / 'data.tar.gz'
    script.write_text(FETCH)
    with published(content, seconds=1.0) as url:
        words = [script, url, path, hashlib.md5(content).hexdigest()]
        runs = [server().start(words, folder / f'{number}.log', no_proxy='127.0.0.1') for number in range(4)]
        victims = sorted((draw.uniform(0, 1.2), number) for number in range(killed))
        begin = time.monotonic()
        for at, number in victims:
            while time.monotonic() < begin + at:
                assert not path.exists() or path.read_bytes() == content
                time.sleep(0.01)
            if runs[number].status() == [None]:
                runs[number].kill()
        ended = [run.wait() for run in runs]
        assert all(status == [0] for status in ended[killed:]), [run.log.read_text()[-500:] for run in runs]
        assert path.exists() or [0] not in ended  # one may be killed behind its last write
        if not path.exists():
            again = server().start(words, folder / 'again.log', no_proxy='127.0.0.1')
            assert again.wait() == [0], again.log.read_text()[-2000:]
    assert path.read_bytes() == content


def quickstarts(kind: str, seed: int, folder: Path) -> None:
    """Start the quickstart twice in one folder, with seed 1 the second with other settings: one of them is refused."""
    words = ['tools/quickstart.py', '--scale', '0.001', '--out', folder / 'out']
    first = server().start(words, folder / 'first.log')
    while not (folder / 'out' / 'train.lock').exists():
        assert first.status() == [None], first.log.read_text()[-2000:]
        time.sleep(0.002)
    second = server().start([*words, *(['--seed', '1'] if seed else [])], folder / 'second.log')
    ended, said = second.wait(), second.log.read_text()
    assert ended == [2] and f'{folder}/out is in use: process {first.pids[0]} on' in said, said[-2000:]
    assert first.wait() == [0], first.log.read_text()[-2000:]
    third = server().start(words, folder / 'third.log')
    assert third.wait() == [0] and third.log.read_text().count('already trained') == 4


def attack(kind: str, make, seed: int = 0, short: bool = False) -> Attack:
    """Return an attack that is told its kind and seed."""
    return Attack(kind, functools.partial(make, kind, seed), seed, short)


def attacks() -> Iterator[Attack]:
    """Yield all of them."""
    for processes, times in ((1, 8), (2, 2)):
        make = functools.partial(second_is_refused, 'recasting', processes)
        several = ', 2 processes' if processes == 2 else ''
        for seed in range(times):
            yield attack(f'a second run in a work dir{several}', make, seed, processes == 1 and seed == 0)
    for seed in range(5):
        yield attack('three runs that start at once in a work dir', at_the_same_moment, seed)
        yield attack('a dir tested, compared and exported from while it trains', looked_at, seed, seed == 0)
        yield attack('killed, and its loader processes left', loaders_left, seed)
    for seed in range(2):
        yield attack('three runs side by side', side_by_side, seed)
        yield attack(
            ('torchrun killed alone', 'one of its processes killed, torchrun not')[seed], launcher_killed, seed
        )
        yield attack('a second quickstart in a folder', quickstarts, seed)
    for killed in (0, 2, 4):
        text = f'a download by four processes{f", {killed} of them killed" if killed else ""}'
        for seed in range(5):
            yield attack(text, functools.partial(downloads, killed), seed, killed == 2 and seed == 0)


CONCURRENCY = Family(
    'concurrency',
    'A second run in a work dir is refused in one line, and whatever else goes on beside a run leaves it as it is.',
    tuple(attacks()),
)
