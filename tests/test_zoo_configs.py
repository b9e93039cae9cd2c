"""Configs of a teacher and a student: ``<method>/<method>_<pair>.py`` of ``_base_/methods`` and ``_base_/pairs``.

More on those of one network and its narrow one (``_base_/singles``) stands in test_adjoined_configs.py.
"""

import re

import pytest
import torch
from mmengine.config import Config
from narrow import FOLDER, SIZE, ZOO, narrow_networks, read, runner_for, take_step

from mmrecast.apis.config_check import check_config
from mmrecast.apis.networks import networks_of
from mmrecast.engine import StagedRunner
from mmrecast.links.taps import Reader, parse_taps
from mmrecast.models import build_network, untrained
from mmrecast.utils.config_file import read_config

ROOT = FOLDER.parents[1]
PAIRS = sorted(path.stem for path in (FOLDER / '_base_/pairs').glob('*.py'))
PARTS = {leaf: re.findall(r'_base_/(methods|pairs)/([\w.-]+)\.py', (FOLDER / leaf).read_text()) for leaf in ZOO}
PAIRED = [leaf for leaf in ZOO if 'pairs' in dict(PARTS[leaf])]
RECASTINGS = [leaf for leaf in PAIRED if leaf.startswith('recasting/')]
SHORT = [leaf for leaf in PAIRED if leaf.endswith(('-short.py', '_digits.py')) and 'methods' in dict(PARTS[leaf])]
CLASSIC = ['resnet56_resnet20', 'resnet32x4_resnet8x4', 'vgg13_vgg8', 'wrn40_2_wrn16_2']


def parts_of(pair: str) -> tuple[str, str, str]:
    """Return the teacher, the student and the data in a pair's name; of a Wide ResNet's two parts one is its width."""
    return re.fullmatch(r'(wrn\d+_\d+|\w+?)_(wrn\d+_\d+|\w+?)_([\w-]+)', pair).groups()


# ---- what stands in the files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize('leaf', ZOO)
def test_a_leaf_is_short_and_named_by_what_it_is_made_of(leaf):
    text, (folder, name) = (FOLDER / leaf).read_text(), leaf.removesuffix('.py').split('/')
    method, pair = (dict(PARTS[leaf]).get(key) for key in ('methods', 'pairs'))
    assert len(text.splitlines()) <= 25
    method = method or folder
    assert method == folder or method.startswith(f'{folder}_')
    if pair is not None:
        teacher, student, data = parts_of(pair)
        names = [f'{method}_{pair}']
        if method in ('backprop', 'born_again') and read(leaf).model.student == read(leaf).networks.teacher:
            names = [f'{method}_{teacher}_{data}' if method == 'backprop' else f'{method}_{teacher}_{teacher}_{data}']
        elif read(leaf).model.type == 'SelfDistill':  # the teacher has no part in it
            names += [f'{method}_{student}_{data}']
        assert name in names
    check_config(read(leaf))
    own = [dict(type='WidthHook')] if method == 'dan' else []
    assert read(leaf).custom_hooks == [dict(type='ResultHook', method=method), *own]


@pytest.mark.parametrize('leaf', [leaf for leaf in PAIRED if 'methods' in dict(PARTS[leaf])])
def test_a_leafs_networks_are_its_pairs(leaf):
    cfg = read(leaf)
    networks = cfg.networks
    for key in {'teacher', 'teacher_ckpt'} & set(cfg.model):
        assert cfg.model[key] == networks[key]
    for role, taps in cfg.model.get('taps', {}).items():
        assert taps == networks.taps[role]
    assert cfg.model.student == networks['teacher' if leaf.startswith('born_again') else 'student']
    kinds = [stage['kind'] for stage in cfg.train_cfg.stages]
    assert kinds == (['pretrain', 'train'] if 'pretrain_stages' in cfg else ['train'])


@pytest.mark.parametrize('pair', PAIRS)
def test_a_teacher_is_what_another_config_trains_or_torchvisions_own(pair):
    networks = read(f'_base_/pairs/{pair}.py').networks
    if 'teacher_ckpt' not in networks:
        assert networks.teacher.type == 'TorchvisionClassifier' and networks.teacher.weights == 'IMAGENET1K_V1'
        return
    folder, name, file = networks.teacher_ckpt.split('/')
    assert (folder, file) == ('work_dirs', 'student.pth')
    assert read(f'backprop/{name}.py').model == dict(type='SingleTeacherDistill', student=networks.teacher)


@pytest.mark.parametrize('pair', CLASSIC)
def test_classic_pairs_have_every_method(pair):
    """On CIFAR-10 and CIFAR-100 the same ones, with one schedule: RepDistiller's."""
    own = {
        data: {leaf.split(f'_{pair}_')[0] for leaf in PAIRED if leaf.endswith(f'_{pair}_{data}.py')} for data in DATA
    }
    assert own['cifar10'] == own['cifar100'] >= {'kd/kd', 'backprop/backprop'}
    for leaf in PAIRED:
        if not re.search(rf'_{pair}_cifar100?\.py$', leaf):
            continue
        cfg = read(leaf)
        assert cfg.train_dataloader.batch_size == 64
        assert cfg.optim_wrapper.optimizer == dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4)
        assert cfg.param_scheduler == dict(type='MultiStepLR', milestones=[150, 180, 210], gamma=0.1)
        kind, length = cfg.train_cfg.stages[-1].kind, cfg.train_cfg.stages[-1].epochs
        assert (kind, length) == (('finetune', 120) if leaf.startswith('recasting') else ('train', 240))


DATA = ('cifar10', 'cifar100')


@pytest.mark.parametrize('pair', CLASSIC)
def test_a_pair_on_cifar100_is_that_on_cifar10_with_more_classes(pair):
    fewer, more = (read(f'_base_/pairs/{pair}_{data}.py').networks for data in DATA)
    assert more.taps == fewer.taps
    for role in ('teacher', 'student'):
        assert (more[role].head.pop('num_classes'), fewer[role].head.pop('num_classes')) == (100, 10)
        if pair == 'resnet56_resnet20':
            assert (more[role].backbone.pop('shortcut'), fewer[role].backbone.pop('shortcut')) == ('B', 'A')
        assert more[role] == fewer[role]


@pytest.mark.parametrize('leaf', [*SHORT, *(leaf for leaf in RECASTINGS)])
def test_every_method_of_a_pair_sees_as_many_images(leaf):
    """Batches are whole in the short ones; starts are Xavier's, which read none."""
    cfg = read(leaf)
    blocks = 3 if leaf.startswith('recasting') else 1
    unit = 'iters' if 'short_pretrain' in cfg else 'epochs'
    lengths = [stage[unit] * (blocks if stage.kind == 'recast' else 1) for stage in cfg.train_cfg.stages]
    (alone,) = cfg.train_stages
    assert sum(lengths) == alone[unit]
    assert unit == 'epochs' or cfg.train_dataloader.drop_last
    assert 'start' not in cfg.model


@pytest.mark.parametrize(('name', 'key'), [('dkd', 'model.links.0.loss.beta'), ('kd', 'model.teacher_ckpt')])
def test_a_config_survives_being_written_and_changed(name, key, tmp_path):
    leaf = FOLDER / f'{name}/{name}_vgg13_vgg8_cifar100.py'
    cfg = read_config(leaf, {key: 7})
    cfg.dump(tmp_path / 'written.py')
    again = Config.fromfile(tmp_path / 'written.py')
    assert again.to_dict() == cfg.to_dict()
    value = again
    for part in key.split('.'):
        value = value[int(part) if part.isdigit() else part]
    assert value == 7


# ---- the networks at their full width -------------------------------------------------------------------------------

# Parameters of both (RepDistiller's, to what the bias in front of a BN adds), then the maps of stem and stages.
PAIR_FACTS = {
    'resnet56_resnet20_cifar100': (861_620, 278_324, [(16, 32), (16, 32), (32, 16), (64, 8)]),
    'resnet32x4_resnet8x4_cifar100': (7_433_860, 1_233_540, [(32, 32), (64, 32), (128, 16), (256, 8)]),
    'vgg13_vgg8_cifar100': (9_459_236, 3_963_556, [(64, 32), (128, 16), (256, 8), (512, 4), (512, 4)]),
    'wrn40_2_wrn16_2_cifar100': (2_255_156, 703_284, [(16, 32), (32, 32), (64, 16), (128, 8)]),
    'resnet14_resnet8_digits': (None, None, [(16, 8), (16, 8), (32, 4), (64, 2)]),
}


@pytest.mark.parametrize('pair', PAIR_FACTS)
def test_classic_pairs_are_as_published(pair):
    cfg = read(f'_base_/pairs/{pair}.py')
    *params, maps = PAIR_FACTS[pair]
    for role, count in zip(('teacher', 'student'), params, strict=True):
        network, taps = build_network(cfg.networks[role]), cfg.networks.taps[role]
        assert count is None or sum(p.numel() for p in network.parameters()) == count
        read_taps = parse_taps(['stem', 'stages'], taps, network)
        values = Reader(role, network, read_taps).probe(torch.randn(2, *cfg.data_preprocessor.input_shape))
        assert [(values[tap].shape[1], values[tap].shape[-1]) for tap in read_taps] == maps


@pytest.mark.parametrize('pair', PAIRS)
def test_taps_of_a_pair(pair):
    """Stages are activated, pre-activations are what they are activated from; the penultimate feature is the head's."""
    cfg = read(f'_base_/pairs/{pair}.py')
    shape = (cfg.data_preprocessor.input_shape[0], *[min(size, SIZE) for size in cfg.data_preprocessor.input_shape[1:]])
    for role in ('teacher', 'student'):
        network, aliases = build_network(narrow_networks(cfg.networks[role], shape)).eval(), cfg.networks.taps[role]
        stages = len(aliases.stages)
        expected = {
            'stem',
            'stages',
            'preacts',
            'last',
            'hint',
            'penultimate',
            *(f'stage{i + 1}' for i in range(stages)),
        }
        assert set(aliases) == expected
        wanted = {alias: parse_taps([alias], aliases, network) for alias in aliases}
        reader = Reader(role, network, [tap for taps in wanted.values() for tap in taps])
        values = reader.probe(torch.randn(4, *shape))
        got = {alias: [values[tap] for tap in taps] for alias, taps in wanted.items()}
        assert wanted['stages'] == [wanted[f'stage{i + 1}'][0] for i in range(stages)]
        assert wanted['last'] == wanted[f'stage{stages}'] and wanted['hint'] == wanted['stage2']
        for stage, preact in zip(got['stages'], got['preacts'], strict=True):
            linear = 'mobilenetv2' in pair and role == 'student' and stage is not got['stages'][-1]
            activated = (
                preact if linear else preact.clamp(0, 6 if 'mobilenetv2' in pair and role == 'student' else None)
            )
            assert preact.min() < 0 and torch.equal(stage, activated)
        mean = got['last'][0].mean((2, 3))
        torch.testing.assert_close(got['penultimate'][0], mean)


@pytest.mark.parametrize('leaf', RECASTINGS)
def test_the_student_of_a_recasting_is_that_of_its_pair(leaf):
    cfg = read(leaf)
    plain = build_network(cfg.networks.student)
    recast = networks_of(FOLDER / leaf).student
    shapes = [{k: v.shape for k, v in network.state_dict().items()} for network in (plain, recast)]
    assert shapes[0] == shapes[1]
    image = torch.randn(2, *cfg.data_preprocessor.input_shape)
    plain.load_state_dict(recast.state_dict())
    assert torch.equal(plain.eval()(image), recast.eval()(image))


# ---- trained, with narrow networks ----------------------------------------------------------------------------------

# Every method on the digits, every pair with those that read the most of it; tests/long has them all.
READING = ('abloss', 'fitnets', 'fsp', 'ofd', 'rkd')
STEPPED = [
    leaf
    for leaf in PAIRED
    if leaf.endswith(('_digits.py', '_imagenet.py'))
    or re.search(r'(34|50|wrn28_4)_.*_cifar10\.py$', leaf)
    or leaf.startswith('recasting')
    or (leaf.startswith(tuple(f'{m}/{m}_' for m in READING)) and leaf.endswith('_cifar100.py'))
]


@pytest.fixture(scope='module', params=STEPPED)
def runner(request, quick, tmp_path_factory) -> StagedRunner:
    """Everything that the training of a config needs, ready for the first batch."""
    return runner_for(request.param, tmp_path_factory.mktemp('run'))


def test_every_stage_takes_a_step(runner):
    for index in range(len(runner.train_loop.stages)):
        take_step(runner, index)


def test_the_student_is_rebuilt_from_its_constructor(runner):
    origin, student = runner.bare_model.origin, runner.bare_model.student
    assert untrained(origin.constructor) == origin.constructor
    if origin.plan is None:
        assert student.state_dict().keys() == build_network(origin.constructor).state_dict().keys()


# ---- READMEs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('folder', sorted({leaf.split('/')[0] for leaf in ZOO}))
def test_readmes_name_configs_that_exist(folder):
    text = (FOLDER / folder / 'README.md').read_text()
    named = re.findall(r'configs/distill/[\w./-]+\.py', text)
    assert named and [path for path in named if not (ROOT / path).is_file()] == []
