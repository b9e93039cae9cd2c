"""Random files, recipes, plans, stages, links and configs: each is taken, or refused in one line of ours.

All of them for ten minutes, and how many there were: ``python tests/torture/fuzz.py --seconds 600``
"""

import argparse
import copy
import io
import json
import pickle
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import hypothesis  # noqa: E402  (those below are found by the line above)
import numpy as np  # noqa: E402
import tiny  # noqa: E402
import torch  # noqa: E402
from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from mmengine.config import Config  # noqa: E402
from torture.attack import Attack, Family  # noqa: E402
from torture.inputs import (  # noqa: E402
    CHANGES,
    DATA,
    FLIPS,
    LINES,
    LINK,
    OPTIONS,
    PLACE,
    RULES,
    SMALL_CHANGES,
    STAGE,
    changed,
    flipped,
    repickled,
)  # fmt: skip
from torture.places import checkpoint, config, sound, taken_or_refused  # noqa: E402

from mmrecast.analysis.results import read_results  # noqa: E402
from mmrecast.apis import load_student, ready_runner  # noqa: E402
from mmrecast.datasets.official import load_batch  # noqa: E402
from mmrecast.engine.checkpoints import read_checkpoint  # noqa: E402
from mmrecast.links.spec import LinkSpec  # noqa: E402
from mmrecast.models import build_network, check_constructor, load_weights  # noqa: E402
from mmrecast.stages import Stage  # noqa: E402
from mmrecast.surgery.apply import check_plan  # noqa: E402
from mmrecast.surgery.plan import Plan, make_plan  # noqa: E402
from mmrecast.surgery.widths import Widths, narrow  # noqa: E402
from mmrecast.utils.building import bounded_building  # noqa: E402
from mmrecast.utils.config_file import read_config  # noqa: E402
from mmrecast.utils.setup_env import register_all_modules  # noqa: E402

FOLDER = Path(tempfile.gettempdir())


@cache
def student_bytes() -> bytes:
    """Return the student file of the sound run."""
    return (sound() / 'run' / 'student.pth').read_bytes()


@cache
def student() -> dict:
    """Return what it holds."""
    return torch.load(io.BytesIO(student_bytes()), weights_only=True)


@cache
def resumable() -> dict:
    """Return what a checkpoint of the sound run holds."""
    return read_checkpoint(str(checkpoint()))


@cache
def network() -> torch.nn.Module:
    """Return the teacher."""
    return build_network(tiny.classifier())


@cache
def runner(folder: Path) -> Any:
    """Return a runner that loads checkpoints."""
    return ready_runner(config(sound()), work_dir=str(folder / 'fuzz'))


def _file(folder: Path, data: bytes, read: Callable[[str], object]) -> None:
    path = folder / 'fuzz.pth'
    path.write_bytes(data)
    read(str(path))


def _saved(folder: Path, content: Any, changes: list, read: Callable[[str], object]) -> None:
    for place, value, drop in changes:
        content = changed(content, place, value, drop)
    torch.save(content, folder / 'fuzz.pth')
    read(str(folder / 'fuzz.pth'))


def _config(folder: Path, changes: list) -> None:
    cfg = config(sound()).to_dict()
    for place, value, drop in changes:
        cfg = changed(cfg, place, value, drop)
    if isinstance(cfg, dict):
        ready_runner(Config(cfg), work_dir=str(folder / 'work'))


def _plan(changes: list) -> None:
    plan = student()['plan']
    for place, value, drop in changes:
        plan = changed(plan, place, value, drop)
    made = Plan.from_dict(plan)
    with bounded_building('the network', 0):
        check_plan(copy.deepcopy(network()), made)


def _written_config(folder: Path, text: str, options: dict) -> None:
    (folder / 'fuzz.py').write_text(text, encoding='utf-8', errors='surrogatepass')
    read_config(folder / 'fuzz.py', options)


def _result(folder: Path, changes: list) -> None:
    content = json.loads((sound() / 'run' / 'result.json').read_text())
    for place, value, drop in changes:
        content = changed(content, place, value, drop)
    (folder / 'result.json').write_text(json.dumps(content))
    read_results([folder / 'result.json'])


FUZZED: dict[str, tuple[st.SearchStrategy, Callable[[Path, Any], object]]] = {
    'bytes of a student file': (FLIPS, lambda f, x: _file(f, flipped(student_bytes(), x), load_student)),
    'bytes of a student\'s pickle': (FLIPS, lambda f, x: _file(f, repickled(student_bytes(), x), load_student)),
    'bytes of a checkpoint\'s pickle': (
        FLIPS, lambda f, x: _file(f, repickled(checkpoint().read_bytes(), x), runner(FOLDER).load_checkpoint)
    ),
    'bytes of a batch': (FLIPS, lambda f, x: load_batch(flipped(_batch(), x), 'a batch')),
    'data in a student file': (CHANGES, lambda f, x: _saved(f, student(), x, load_student)),
    'data in a checkpoint': (CHANGES, lambda f, x: _saved(f, resumable(), x, runner(FOLDER).load_checkpoint)),
    'data as weights': (
        CHANGES, lambda f, x: _saved(f, student()['weights'], x, lambda p: load_weights(copy.deepcopy(network()), p))
    ),
    'constructors': (DATA, lambda f, x: check_constructor(x)),
    'plans': (CHANGES, lambda f, x: _plan(x)),
    'widths': (DATA, lambda f, x: narrow(copy.deepcopy(network()), Widths.from_dict(x))),
    'recipes': (
        st.one_of(st.lists(RULES, max_size=3), DATA), lambda f, x: make_plan(network(), x, tiny.SHAPE)
    ),
    'stages': (STAGE, lambda f, x: Stage.from_config(x)),
    'links': (LINK, lambda f, x: LinkSpec.from_config(0, x, {}, network(), network())),
    'config files': (st.tuples(LINES, OPTIONS), lambda f, x: _written_config(f, '\n'.join(x[0]), x[1])),
    'configs': (SMALL_CHANGES, lambda f, x: _config(f, x)),
    'results': (st.lists(st.tuples(PLACE, DATA, st.booleans()), min_size=1), lambda f, x: _result(f, x)),
}  # fmt: skip


@cache
def _batch() -> bytes:
    return pickle.dumps({b'data': np.zeros((2, 3072), np.uint8), b'labels': [0, 1]}, protocol=2)


def attack(folder: Path, target: str, inputs: int, seed: int) -> None:
    """Try so many inputs at a target; a failing one is made as small as possible, and told."""
    strategy, act = FUZZED[target]

    @hypothesis.seed(seed)
    @settings(
        max_examples=inputs, database=None, deadline=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )  # fmt: skip
    @given(strategy)
    def attempt(x: Any) -> None:
        taken_or_refused(lambda: act(folder, x), command=target == 'configs')

    sound()
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (4 << 30), before[1]))
    try:
        attempt()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


INPUTS = {'configs': 40, 'data in a checkpoint': 100}  # others: 200
ROUNDS = 10
FUZZ = Family(
    'fuzz',
    'Whatever stands in a file, a recipe, a plan, a stage, a link or a config is taken or refused in one line.',
    [
        Attack(
            f'{INPUTS.get(target, 200)} inputs: {target}',
            partial(attack, target=target, inputs=INPUTS.get(target, 200), seed=seed),
            seed,
        )
        for seed in range(1, ROUNDS + 1)
        for target in FUZZED
    ] + [
        Attack(f'20 inputs: {target}', partial(attack, target=target, inputs=20, seed=0), 0, short=True)
        for target in FUZZED
    ],
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float, default=600, help='how long (%(default)s)')
    parser.add_argument('--only', nargs='+', choices=list(FUZZED), default=list(FUZZED), help='targets (all)')
    parser.add_argument('--seed', type=int, default=1000, help='of the first round (%(default)s)')
    args = parser.parse_args()
    torch.set_num_threads(1)
    register_all_modules()
    tried, failed, end = Counter(), [], time.monotonic() + args.seconds
    seed = args.seed
    while time.monotonic() < end:
        for target in args.only:
            inputs = INPUTS.get(target, 200)
            with tempfile.TemporaryDirectory(prefix='fuzz_') as folder:
                try:
                    attack(Path(folder), target, inputs, seed)
                except Exception as error:
                    failed.append(target)
                    notes = '\n'.join(getattr(error, '__notes__', []))
                    print(f'LOST {target}, seed {seed}: {error!r}\n{notes}', flush=True)
            tried[target] += inputs
            print(f'{target}: {tried[target]} inputs', flush=True)
            if time.monotonic() > end:
                break
        seed += 1
    print(f'{tried.total()} inputs, {len(failed)} rounds lost: {dict(tried)}')
    sys.exit(bool(failed))


if __name__ == '__main__':
    main()
