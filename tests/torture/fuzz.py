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
import zipfile
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

WORDS = (
    'type', 'source', 'target', 'ConvBlock', 'BasicBlock', 'Bottleneck', 'DenseBlock', 'width_ratio', 'out_channels',
    'in_channels', 'stride', 'kernel_size', 'mid_channels', 'backbone', 'backbone.layer1.0', 'backbone.layer*.*', '*',
    'backbone.*.0', 'head', 'head.fc', 'logits', 'path', 'call', 'item', 'read', 'input', 'kind', 'epochs', 'iters',
    'blocks', 'all', 'recast', 'finetune', 'train', 'optim_wrapper', 'param_scheduler', 'val', 'parallel', 'student',
    'teacher', 'loss', 'connector', 'teacher_connector', 'stage', 'name', 'warmup', 'pretrain', 'MSELoss', 'L1Loss',
    'recipe', 'plan', 'widths', 'entries', 'layers', 'action', 'keep', 'rebuild', 'span', 'glue', 'constructor',
    '__class__', '__init__', '_scope_', '_delete_', 'os.system', '../x', 'x.pth', 'x.pkl', 'custom_imports', 'lambda',
    'mmrecast.', '.', '', ' ', '\n', '\x00', '\ud800', 'é', 'weights', 'init_cfg', 'CifarResNet', 'mmpretrain.ResNet',
)  # fmt: skip
NUMBERS = (0, 1, 2, 3, 4, -1, 10**6, 10**9, 10**12, 10**30, -(10**30), 0.5, 1.0, float('nan'), float('inf'), 1e308)
LEAVES = st.one_of(
    st.sampled_from(WORDS), st.sampled_from(NUMBERS), st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=5)
)
DATA = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(WORDS), inner, max_size=4), st.tuples(inner, inner)
    ),
    max_leaves=8,
)
FILE_DATA = st.one_of(
    DATA, st.binary(max_size=5), st.builds(torch.zeros, st.integers(0, 3)), st.dictionaries(st.integers(), LEAVES)
)
PLACE = st.lists(st.integers(0, 60), min_size=1, max_size=7)  # which item of which item
FOLDER = Path(tempfile.gettempdir())


def changed(content: Any, place: list[int], value: Any, drop: bool = False) -> Any:
    """Return nested data with ``value`` at a place inside, or without what is there."""
    index, *deeper = place
    if isinstance(content, dict) and content:
        key = list(content)[index % len(content)]
        if drop and not deeper:
            return {k: v for k, v in content.items() if k != key}
        return {k: changed(v, deeper, value, drop) if k == key and deeper else value if k == key else v
                for k, v in content.items()}  # fmt: skip
    if isinstance(content, list | tuple) and content:
        at = index % len(content)
        items = list(content)
        item = changed(items[at], deeper, value, drop) if deeper else value
        items[at : at + 1] = [] if drop and not deeper else [item]
        return type(content)(items)
    return value


CHANGES = st.lists(st.tuples(PLACE, FILE_DATA, st.booleans()), min_size=1, max_size=3)
# A config may ask for any size: what it says is what its owner wants.
SMALL = st.one_of(st.sampled_from(WORDS), st.none(), st.booleans(), st.integers(-5, 5), st.floats(-2, 2))
SMALL_CHANGES = st.lists(st.tuples(PLACE, SMALL, st.booleans()), min_size=1, max_size=2)
FLIPS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255), st.sampled_from('sid')), min_size=1, max_size=8)


def flipped(data: bytes, flips: list[tuple[float, int, str]]) -> bytes:
    """Return bytes of which some are set to another, put in or taken out."""
    raw = bytearray(data)
    for share, byte, how in flips:
        at = min(int(share * len(raw)), len(raw) - 1)
        raw[at : at + (how != 'i')] = [] if how == 'd' and len(raw) > 1 else [byte]
    return bytes(raw)


def repickled(data: bytes, flips: list[tuple[float, int, str]]) -> bytes:
    """Return an archive of torch.save with bytes of its pickle flipped, and everything else in order."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, 'w') as new:
        for info in old.infolist():
            entry = old.read(info)
            new.writestr(info.filename, flipped(entry, flips) if info.filename.endswith('data.pkl') else entry)
    return made.getvalue()


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


BLOCKS = ('ConvBlock', 'BasicBlock', 'Bottleneck', 'DenseBlock', 'DepthwiseSeparable')
TARGETS = st.one_of(
    st.sampled_from([*BLOCKS, 'mmrecast.ConvBlock']),
    st.fixed_dictionaries(
        dict(type=st.sampled_from([*BLOCKS, 'x'])),
        optional=dict(
            width_ratio=st.one_of(st.floats(), st.lists(st.floats(0, 2), max_size=4), LEAVES),
            out_channels=st.one_of(st.integers(-2, 20), LEAVES), kernel_size=st.one_of(st.integers(0, 9), LEAVES),
            stride=st.one_of(st.integers(0, 3), LEAVES), mid_channels=LEAVES, norm=DATA,
        ),
    ),
    DATA,
)  # fmt: skip
PATTERNS = st.one_of(st.sampled_from([w for w in WORDS if 'back' in w or w in ('*', 'head.fc', '')]), DATA)
RULES = st.one_of(st.fixed_dictionaries(dict(source=PATTERNS, target=TARGETS)), DATA)
STAGE = st.one_of(
    st.fixed_dictionaries(
        dict(kind=st.one_of(st.sampled_from(['recast', 'finetune']), LEAVES)),
        optional={
            k: DATA for k in ('epochs', 'iters', 'blocks', 'optim_wrapper', 'param_scheduler', 'val', 'parallel')
        },
    ),
    DATA,
)
LINK = st.one_of(
    st.fixed_dictionaries(
        dict(student=st.one_of(PATTERNS, DATA), teacher=st.one_of(PATTERNS, DATA), loss=DATA),
        optional={k: DATA for k in ('connector', 'teacher_connector', 'stage', 'name', 'warmup', 'call')},
    ),
    DATA,
)
LINES = st.lists(
    st.one_of(
        st.builds(lambda k, v: f'{k} = {v!r}', st.sampled_from([w for w in WORDS if w.isidentifier()]), DATA),
        st.sampled_from(['_base_ = "nowhere.py"', '_base_ = ["fuzz.py"]', 'import nowhere', 'x = {',
                         'raise SystemError', 'x = 1 / 0', 'assert False', 'def', '"' * 3,
                         'model = dict(type=Recasting)', '_base_ = 3',
                         '{{ fileDirname }}', '\x00', 'x = {{_base_.y}}', 'del model', 'x = [0] * -1']),
        st.text(max_size=20),
    ),
    max_size=5,
)  # fmt: skip
OPTIONS = st.dictionaries(
    st.builds('.'.join, st.lists(st.sampled_from(WORDS), min_size=1, max_size=3)), DATA, max_size=2
)

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
        Attack(f'20 inputs: {target}', partial(attack, target=target, inputs=20, seed=0), 0, short=target != 'configs')
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
