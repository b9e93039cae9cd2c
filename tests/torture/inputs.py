"""What random inputs are made of: data, recipes, stages, links, lines of configs, and changes of what is in order."""

import io
import zipfile
from typing import Any

import torch
from hypothesis import strategies as st

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


BLOCKS = ('ConvBlock', 'BasicBlock', 'Bottleneck', 'DenseBlock', 'DepthwiseSeparable', 'Skip')
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
