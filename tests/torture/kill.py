"""SIGKILL at random moments and at chosen calls; the run that goes on has to end with the bits of one left alone."""

import atexit
import functools
import itertools
import json
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torture.attack import Attack, Family
from torture.forks import Run, server
from torture.problems import write
from torture.same import assert_alike, content, different

PHASES = {
    'recasting': ('start', 'boundary', 'recast', 'finetune', 'checkpoint', 'end'),
    'recasting of residual blocks': ('boundary', 'recast', 'finetune', 'checkpoint'),
    'blocks apart': ('boundary', 'recast', 'finetune', 'end'),
    'Factor Transfer': ('start', 'boundary', 'pretrain', 'train', 'checkpoint', 'end'),
    'width search': ('start', 'boundary', 'search', 'train', 'checkpoint', 'end'),
}
WORDS = dict(
    start='before the first batch', boundary='between stages', checkpoint='around a checkpoint',
    end='while the result is written', recast='while a block trains', finetune='in fine-tuning',
    pretrain='in pre-training', train='in training', search='in the search',
)  # fmt: skip
STAGE = 'stage*_iter*.pth'
CALLS = {
    'half of a checkpoint written': ('write', STAGE, 12),
    'a checkpoint written, not on the disk yet': ('fsync', STAGE, 12),
    'a checkpoint on the disk, without its name yet': ('replace', STAGE, 12),
    'a checkpoint there, not yet the last one': ('replaced', STAGE, 12),
    'last_checkpoint about to change': ('replace', 'last_checkpoint', 12),
    'last_checkpoint changed': ('replaced', 'last_checkpoint', 12),
    'an older checkpoint about to go': ('unlink', STAGE, 12),
    'an older checkpoint gone': ('unlinked', STAGE, 12),
    'half of result.json written': ('write', 'result.json', 3),
    'result.json changed': ('replaced', 'result.json', 3),
    'half of student.pth written': ('write', 'student.pth', 1),
    'student.pth without its name yet': ('replace', 'student.pth', 1),
    'student.pth there, the result not': ('replaced', 'student.pth', 1),
}
OWN_CALLS = {
    'blocks apart': {
        'half of a block written': ('write', 'blocks/*.pth', 3),
        'a block there': ('replaced', 'blocks/*.pth', 3),
    },
    'Factor Transfer': {
        'half of a connector written': ('write', 'coder.pth', 1),
        'a connector there, its stage not over': ('replaced', 'coder.pth', 1),
    },
    'width search': {
        'half of the full network written': ('write', 'full/student.pth', 1),
        'the full network there, the student not': ('replaced', 'full/student.pth', 1),
    },
}
TOGETHER = ('recasting', 'Factor Transfer', 'width search')  # also trained by two processes
SHORT = {
    ('recasting, at any moment', 0),
    ('Factor Transfer, a checkpoint there, not yet the last one', 0),
    ('export over an older file, half of student.pth written', 0),
}
TRIES = 8


@functools.cache
def scratch() -> Path:
    """Return a folder that goes with this process."""
    folder = tempfile.mkdtemp(prefix='torture_whole_')
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@dataclass
class Victim:
    """A run that is killed and goes on.

    Args:
        folder (Path): Where it keeps everything: the config, the work dir ``run``, what it says, its phases.
        problem (str): A name of `problems.PROBLEMS`.
        processes (int): How many train together. Defaults to 1.
    """

    folder: Path
    problem: str
    processes: int = 1

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config, self.work_dir = self.folder / 'config.py', self.folder / 'run'
        if not self.config.exists():
            write(self.problem, self.config)
        self.starts, self.began = 0, time.monotonic()

    @property
    def phases(self) -> Path:
        """Path: What the latest start tells of its phases."""
        return self.folder / f'{self.starts}.phases'

    def start(self, resume: bool | None = None, **changes: str) -> Run:
        """Start it, afresh or from where it stands: without ``resume``, as the work dir lets it."""
        self.starts, self.began = self.starts + 1, time.monotonic()
        resume = (self.work_dir / 'last_checkpoint').exists() if resume is None else resume
        words = ['tools/train.py', self.config, '--work-dir', self.work_dir, *(['--resume'] if resume else [])]
        log = self.folder / f'{self.starts}.log'
        return server().start(words, log, self.processes, TORTURE_PHASES=self.phases, **changes)

    def timeline(self) -> Iterator[tuple[str, float, float]]:
        """Yield the phases so far with their begin and end, the current one ending now."""
        lines = self.phases.read_text().splitlines() if self.phases.exists() else []
        told = [(self.began, 'start'), *((float(at), phase) for at, phase in map(str.split, lines))]
        for (begin, phase), (end, _) in zip(told, [*told[1:], (time.monotonic(), '')], strict=True):
            yield phase, begin, end

    def finish(self) -> None:
        """Let it come to its end, and assert that it does."""
        if not (self.work_dir / 'last_checkpoint').exists():
            refused = self.start(resume=True)
            assert refused.wait() == [2] * self.processes and 'nothing to resume' in refused.log.read_text()
        run = self.start()
        assert run.wait() == [0] * self.processes, run.log.read_text()[-2000:]

    def assert_as_whole(self) -> None:
        """Assert that it ended as the one that was left alone."""
        assert_alike(self.work_dir, whole(self.problem, self.processes).work_dir)


@functools.cache
def whole(problem: str, processes: int = 1) -> Victim:
    """Return a run that nothing interrupted."""
    alone = Victim(scratch() / f'{problem} {processes}'.replace(' ', '_'), problem, processes)
    run = alone.start()
    assert run.wait() == [0] * processes, run.log.read_text()[-2000:]
    alone.seconds = time.monotonic() - alone.began
    alone.spent = {}
    for phase, begin, end in alone.timeline():
        alone.spent[phase] = alone.spent.get(phase, 0) + end - begin
    return alone


def struck(victim: Victim, run: Run, phase: str, seconds: float, ranks: tuple[int, ...] = ()) -> bool:
    """Kill a run when it has spent ``seconds`` in a phase, '' for any; return False where it came to its end before."""
    while None in run.status():
        told = list(victim.timeline())
        spent = sum(end - begin for name, begin, end in told if phase in ('', name))
        if phase in ('', told[-1][0]) and spent >= seconds:
            return any(status and status < 0 for status in run.kill(*ranks))
        time.sleep(0.001)
    assert run.status() == [0] * victim.processes, run.log.read_text()[-2000:]
    return False


def killed_in(problem: str, phase: str, processes: int, kind: str, seed: int, folder: Path) -> None:
    """Kill a run in a phase, maybe once more at any moment of what is left, and let it go on to its end."""
    draw, alone = random.Random(f'{kind} {seed}'), whole(problem, processes)
    seconds = draw.uniform(0, alone.spent[phase] if phase else alone.seconds)
    for attempt in range(TRIES):  # it may be faster than the one left alone was
        victim = Victim(folder / str(attempt), problem, processes)
        ranks = draw.choice(((), (0,), (1,))) if processes == 2 else ()
        if struck(victim, victim.start(), phase, seconds, ranks):
            break
        met = sum(end - begin for name, begin, end in victim.timeline() if phase in ('', name))
        seconds = draw.uniform(0, met)
    else:
        raise RuntimeError(f'the run was never met in {phase!r}')
    while draw.random() < 0.4 and struck(victim, victim.start(), '', draw.uniform(0, alone.seconds)):
        pass
    victim.finish()
    victim.assert_as_whole()


def killed_at(problem: str, call: tuple[str, str, int], processes: int, kind: str, seed: int, folder: Path) -> None:
    """Let a run kill itself at a call, and go on to its end."""
    draw, (name, path, most) = random.Random(f'{kind} {seed}'), call
    n = draw.randint(1, most)
    group = draw.random() < 0.5  # of two processes, the one that writes, or both
    victim = Victim(folder / 'victim', problem, processes)
    run = victim.start(TORTURE_KILL=json.dumps(dict(call=name, name=path, n=n, group=group)))
    run.wait_for_first()
    assert victim.phases.with_suffix('.struck').exists(), f'the run came to its end before call {n}'
    victim.finish()
    victim.assert_as_whole()


@functools.cache
def exported() -> tuple[Path, float]:
    """Return what a command that nothing interrupted exports from the run left alone, and the seconds it takes."""
    out, begin = scratch() / 'exported.pth', time.monotonic()
    run = server().start([*export_words(), out], scratch() / 'exported.log')
    assert run.wait() == [0], run.log.read_text()[-2000:]
    return out, time.monotonic() - begin


def export_words() -> list[object]:
    """Return the command of an export, but for where it goes."""
    alone = whole('recasting')
    return ['tools/export_student.py', alone.config, next(alone.work_dir.glob('stage004*.pth'))]


def killed_export(call: tuple[str, str, int] | None, old: bool, kind: str, seed: int, folder: Path) -> None:
    """Kill tools/export_student.py; under the final name there is the former file, nothing, or the whole new one."""
    draw, out = random.Random(f'{kind} {seed}'), folder / 'out' / 'student.pth'
    (entire, seconds), words = exported(), [*export_words(), out]
    if old:
        out.parent.mkdir()
        shutil.copy(whole('recasting').config, out)  # any bytes
    before = out.read_bytes() if old else None
    changes = {} if call is None else dict(TORTURE_KILL=json.dumps(dict(call=call[0], name=call[1], n=1)))
    run = server().start(words, folder / 'killed.log', TORTURE_PHASES=folder / 'killed.phases', **changes)
    if call is None:
        time.sleep(draw.uniform(0, seconds))
        run.kill()
    else:
        assert run.wait()[0] < 0
    if out.exists() and out.read_bytes() != before:
        assert not different(content(out), content(entire))
    elif not old:
        assert not out.exists()
    run = server().start(words, folder / 'again.log', TORTURE_PHASES=folder / 'again.phases')
    assert run.wait() == [0] and not different(content(out), content(entire)), run.log.read_text()[-2000:]


def attacks() -> Iterator[Attack]:
    """Yield all of them: by phase, at any moment, at calls, and of the export."""
    for (problem, phases), processes in itertools.product(PHASES.items(), (1, 2)):
        whose = problem if processes == 1 else f'{problem}, {processes} processes'
        if processes == 2 and problem not in TOGETHER:
            continue
        for phase in ('', *phases):
            kind = f'{whose}, {WORDS.get(phase, "at any moment")}'
            for seed in range((2 if phase else 6) // processes):
                make = functools.partial(killed_in, problem, phase, processes, kind, seed)
                yield Attack(kind, make, seed, (kind, seed) in SHORT)
        everywhere = processes == 1 and problem in TOGETHER or problem == 'recasting'
        calls = (CALLS if everywhere else {}) | (OWN_CALLS.get(problem, {}) if processes == 1 else {})
        for text, call in calls.items():
            kind = f'{whose}, {text}'
            make = functools.partial(killed_at, problem, call, processes, kind, 0)
            yield Attack(kind, make, 0, (kind, 0) in SHORT)
    for old in (False, True):
        over = ' over an older file' if old else ''
        for text in ('half of student.pth written', 'student.pth without its name yet', ''):
            kind = f'export{over}, {text or "at any moment"}'
            for seed in range(1 if text else 4):
                make = functools.partial(killed_export, CALLS.get(text), old, kind, seed)
                yield Attack(kind, make, seed, (kind, seed) in SHORT)


KILL = Family(
    'kill',
    'A run that is killed at any moment goes on with --resume and ends with the bits of one that was left alone.',
    tuple(attacks()),
)
