"""Configs of recastings and single networks: what they are called, what they say, that they build, plan, replay, train.

Those of a teacher and a student, as distillers have them, are looked at in test_zoo_configs.py.
"""

import copy
import re
from pathlib import Path

import pytest
import torch
import yaml
from narrow import ALL, FOLDER, LEAVES, narrowed, read, stages_to_try, take_step
from torch import nn

from mmrecast.apis import load_student, ready_runner
from mmrecast.apis.config_check import check_config
from mmrecast.apis.networks import networks_of
from mmrecast.engine import StagedRunner
from mmrecast.models import build_network, untrained
from mmrecast.surgery.apply import replay
from mmrecast.surgery.student_file import save_student
from mmrecast.utils.modules import get_module

ROOT = FOLDER.parents[1]
METHODS = ['backprop', 'kd_mse', 'recasting']
SCHEDULES = ('-fast', '-parallel')  # leaves that recast as another one does, by another schedule
OTHERWISE = [leaf for leaf in LEAVES if leaf.removesuffix('.py').endswith(SCHEDULES)]
RECASTINGS = [leaf for leaf in LEAVES if leaf.startswith('recasting/') and leaf not in OTHERWISE]
EQUAL_IMAGES = [
    leaf for leaf in LEAVES if leaf.startswith('recasting/') and re.search('-short|-parallel|_digits', leaf)
]
IMAGES = dict(CIFAR10=50_000, Digits=1437)


def bases_of(path: Path) -> list[str]:
    """Return the names of the bases of a config, those of a leaf it builds on included."""
    names = re.findall(r"'(\.[\w./-]*\.py)'", path.read_text())
    inherited = [base for name in names if name.startswith('./') for base in bases_of(path.parent / name)]
    return [name.removeprefix('../_base_/').removesuffix('.py') for name in names if '_base_' in name] + inherited


def sibling(leaf: str, method: str) -> str:
    """Return the leaf that trains a recasting's student by another method."""
    return leaf.replace('recasting', method).replace('-parallel', '-short')


# ---- what stands in the files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize('leaf', LEAVES)
def test_a_leaf_is_short_and_named_by_what_it_is_made_of(leaf):
    path, (method, name) = FOLDER / leaf, leaf.removesuffix('.py').split('/')
    assert len(path.read_text().splitlines()) <= 25
    bases = dict(base.split('/') for base in bases_of(path) if '/' in base)
    model, data = bases['models'], bases['datasets']
    network = model.removesuffix(f'_{data}')
    parts = re.fullmatch(rf'{method}_{network}(?:_(\w[\w.]*))?_{data}(-short|-fast|-parallel)?', name)
    assert parts and model == f'{network}_{data}' and method in METHODS
    target, short = parts.groups()
    assert bases.get('recipes', '').endswith(f'_{target}') if target else 'recipes' not in bases
    if short == '-short' and target:
        assert bases['budgets'] == f'{network}_{target}'
    assert read(leaf).custom_hooks == [dict(type='ResultHook', method=method)]
    check_config(read(leaf))


@pytest.mark.parametrize('leaf', OTHERWISE)
def test_another_schedule_recasts_the_same(leaf):
    ours, plain = read(leaf), read(re.sub('-[a-z]+.py$', '.py', leaf))
    for key in ('type', 'teacher', 'teacher_ckpt', 'recipe'):
        assert ours.model[key] == plain.model[key]
    assert ours.train_dataloader.dataset == plain.train_dataloader.dataset
    assert ours.train_cfg != plain.train_cfg


def test_every_base_is_in_use():
    files = [*FOLDER.rglob('*.py')]
    named = [(path, name) for path in files for name in re.findall(r"'(\.[\w./-]*\.py)'", path.read_text())]
    used = {(path.parent / name).resolve() for path, name in named}
    assert {path for path in files if path.is_relative_to(FOLDER / '_base_')} - used == set()


def test_every_student_is_recast_distilled_and_trained_alone():
    for method in ('kd_mse', 'backprop'):
        found = [leaf for leaf in LEAVES if leaf.startswith(method) and 'recipe' in read(leaf)]
        assert found == sorted({sibling(leaf, method) for leaf in RECASTINGS})


@pytest.mark.parametrize('leaf', RECASTINGS)
def test_rows_of_a_comparison_have_one_student(leaf):
    """The same recipe on the same untrained network, the same data and teacher; KD and backprop one schedule."""
    ours, kd, backprop = (read(sibling(leaf, method)) for method in ('recasting', 'kd_mse', 'backprop'))
    for theirs in (kd, backprop):
        student = theirs.model.student
        assert student.recipe == ours.model.recipe and untrained(student.source) == untrained(ours.model.teacher)
        assert tuple(student.get('input_shape', (3, 32, 32))) == tuple(ours.data_preprocessor.input_shape)
        assert theirs.data_preprocessor == ours.data_preprocessor
        assert theirs.train_dataloader.dataset == ours.train_dataloader.dataset
    assert kd.model.teacher == ours.model.teacher and kd.model.get('teacher_ckpt') == ours.model.get('teacher_ckpt')
    assert kd.model.links == [dict(student='logits', teacher='logits', loss=dict(type='MSELoss'))]
    assert set(backprop.model) == {'type', 'student'}
    assert kd.train_cfg == backprop.train_cfg and kd.train_dataloader == backprop.train_dataloader


@pytest.mark.parametrize('leaf', RECASTINGS)
def test_a_teacher_is_what_another_config_trains_or_torchvisions_own(leaf):
    model = read(leaf).model
    if leaf.endswith('_imagenet.py'):
        from torchvision import models

        assert models.get_model_weights(model.teacher.name)[model.teacher.weights].name == 'IMAGENET1K_V1'
        return
    folder, name, file = model.teacher_ckpt.split('/')
    assert (folder, file) == ('work_dirs', 'student.pth')
    assert read(f'backprop/{name}.py').model == dict(type='SingleTeacherDistill', student=model.teacher)


def images_of(stages: list[dict], loader: dict, blocks: int = 1) -> int:
    """Count what the stages see; each begins an epoch of its own, whose last batch may be smaller."""
    size, whole = loader['batch_size'], IMAGES[loader['dataset']['type']]
    batches = [size] * (whole // size) + ([] if loader['drop_last'] else [whole % size])
    counts = [(blocks if stage['kind'] == 'recast' else 1, stage['iters']) for stage in stages]
    return sum(times * sum(batches[i % len(batches)] for i in range(n)) for times, n in counts)


@pytest.mark.parametrize('leaf', EQUAL_IMAGES)
def test_rows_of_a_short_comparison_see_as_many_images(leaf):
    """Those that starts read count, too; the message is what ``scratch_stages`` of the budget should be."""
    cfg = read(leaf)
    blocks = len(networks_of(FOLDER / leaf, (cfg.data_preprocessor.input_shape[0], 32, 32)).plan.steps)
    start = cfg.model.start if isinstance(cfg.model.start, dict) else dict(type=cfg.model.start)
    ours = images_of(cfg.train_cfg.stages, cfg.train_dataloader, blocks)
    ours += blocks * start.get('images', 1024) if start['type'] == 'closed_form' else 0
    loader = read(sibling(leaf, 'kd_mse')).train_dataloader
    (stage,) = read(sibling(leaf, 'kd_mse')).train_cfg.stages
    fitting = next(n for n in range(1, 10**6) if images_of([dict(stage, iters=n)], loader) >= ours)
    assert abs(images_of([stage], loader) - ours) < loader.batch_size, f'iters={fitting} for {ours:,} images'


# Batch; epochs and rate per block, of fine-tuning, epochs between drops. For teachers, weight decay and where it drops.
AUTHORS = {
    'recasting_resnet56_convnet_cifar10': (64, (60, 1e-3), (100, 1e-3), 20),
    'recasting_vgg16_x0.4_cifar100': (64, (60, 1e-3), (100, 1e-3), 20),
    'recasting_resnet50_mixed_imagenet': (128, (10, 5e-4), (20, 1e-4), 7),
    'recasting_densenet121_basic_imagenet': (64, (10, 5e-4), (20, 1e-4), 7),
    'recasting_vgg16_ca_imagenet': (64, (10, 5e-4), (20, 1e-4), 7),
    'recasting_alexnet_first_imagenet': (64, (8, 5e-4), (20, 1e-4), 5),
    'backprop_resnet83_cifar100': (128, (180, 0.1), 1e-4, [60, 120, 150]),
    'backprop_vgg16_cifar10': (128, (180, 0.1), 1e-4, [60, 120, 150]),
    'backprop_wrn28_10_cifar10': (128, (200, 0.1), 5e-4, [60, 120, 160]),
    'backprop_densenet100_cifar10': (64, (300, 0.1), 1e-4, [150, 225]),
}


@pytest.mark.parametrize('name', AUTHORS)
def test_settings_of_the_authors(name):
    cfg = read(f'{name.split("_")[0]}/{name}.py')
    stages, scheduler, own = cfg.train_cfg.stages, cfg.param_scheduler, cfg.optim_wrapper.optimizer
    assert (cfg.train_dataloader.batch_size, (stages[0].epochs, own.lr)) == AUTHORS[name][:2]
    if name.startswith('recasting'):
        last = (stages[1].get('optim_wrapper') or cfg.optim_wrapper).optimizer
        assert ((stages[1].epochs, last.lr), scheduler.step_size) == AUTHORS[name][2:]
        assert scheduler == dict(type='StepLR', step_size=scheduler.step_size, gamma=0.1)
        assert own == dict(type='Adam', lr=own.lr) and [s.kind for s in stages] == ['recast', 'finetune']
    else:
        decay, milestones = AUTHORS[name][2:]
        assert own == dict(type='SGD', lr=0.1, momentum=0.9, nesterov=True, weight_decay=decay)
        assert scheduler == dict(type='MultiStepLR', milestones=milestones, gamma=0.2)


# ---- the networks at their full width -------------------------------------------------------------------------------

DESIGN = {  # widths of the targets; side of an image that is large enough
    'resnet56_convnet_cifar10': ([16] * 9 + [32] * 9 + [64] * 9, 8),
    'resnet83_convnet_cifar10': ([16] * 9 + [32] * 9 + [64] * 9, 8),
    'wrn28_10_convnet_cifar10': ([160] * 8 + [320] * 4, 8),
    'wrn28_10_x0.2_cifar10': ([32] * 4 + [64] * 4 + [128] * 4, 8),
    'densenet100_convnet_cifar10': ([216, 300, 342], 8),
    'densenet100_basic_cifar10': ([216, 300, 342], 8),
    'vgg16_x0.4_cifar10': ([26] * 2 + [51] * 2 + [102] * 3 + [205] * 6, 32),
    'resnet50_convnet_imagenet': ([64] * 3 + [128] * 4 + [256] * 6 + [512] * 3, 32),
    'resnet50_mixed_imagenet': ([64] * 3 + [128] * 4 + [256] * 4, 32),
    'densenet121_basic_imagenet': ([256, 512, 1024, 1024], 32),
    'densenet121_mixed_imagenet': ([256, 512], 32),
    'vgg16_cp_imagenet': ([35] * 2 + [70] * 2 + [141] * 3 + [282] * 6, 32),
    'vgg16_ca_imagenet': ([6] * 2 + [26] * 2 + [77] * 3 + [307] * 3 + [461] * 3, 32),
    'alexnet_first_imagenet': ([25], 64),
}


@pytest.mark.parametrize('name', DESIGN)
def test_full_width_is_that_of_the_paper(name):
    """Built from the config alone, without weights, and run; DenseNet's widths are those of its dense blocks."""
    widths, side = DESIGN[name]
    networks = networks_of(FOLDER / f'recasting/recasting_{name}.py', (3, side, side))
    assert [entry.out_channels for entry in networks.plan.entries if entry.action == 'recast'] == widths
    assert networks.student(torch.zeros(1, 3, side, side)).shape == (1, 1000 if name.endswith('imagenet') else 10)


@pytest.mark.parametrize('path', sorted((FOLDER / '_base_/models').glob('*_cifar100.py')), ids=lambda path: path.stem)
def test_a_network_for_cifar100_is_that_for_cifar10_with_more_classes(path):
    more, fewer = read(path).teacher, read(path.with_name(path.name.replace('_cifar100', '_cifar10'))).teacher
    assert (more.head.pop('num_classes'), fewer.head.pop('num_classes')) == (100, 10)
    assert more == fewer


# ---- built, planned, replayed and trained, with narrow networks ------------------------------------------------------


@pytest.fixture(scope='module', params=LEAVES)
def runner(request, quick, tmp_path_factory) -> StagedRunner:
    """Everything that the training of a config needs, ready for the first batch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StagedRunner, '_log_env', lambda *args: None)
        torch.manual_seed(0)
        return ready_runner(narrowed(request.param), work_dir=str(tmp_path_factory.mktemp('run')))


def test_the_plan_replays_on_the_untrained_constructor(runner, tmp_path):
    origin = runner.bare_model.origin
    torch.manual_seed(1)
    student = build_network(untrained(origin.constructor))
    if origin.plan is not None:
        replay(student, origin.plan)
    save_student(tmp_path / 'student.pth', student, origin)
    loaded, image = load_student(tmp_path / 'student.pth'), torch.rand(2, *runner.bare_model.input_shape)
    assert torch.equal(loaded(image), student.eval()(image))
    last = len(runner.train_loop.stages) - 1
    runner.bare_model.restore_structure(runner.train_loop.stages, last, started=True, structure={})
    trained = runner.bare_model.student.state_dict()
    assert {name: value.shape for name, value in trained.items()} == _shapes(student)


def test_counts_change_as_planned(runner):
    """Every target has the weights of its definition; what is neither recast nor fitted to it is the source's."""
    constructor, plan = runner.bare_model.origin.constructor, runner.bare_model.origin.plan
    if plan is None:
        assert _shapes(runner.bare_model.student) == _shapes(build_network(constructor))
        return
    source = build_network(constructor)
    student = replay(copy.deepcopy(source), plan)
    changed: list[str] = []
    for entry in plan.entries:
        if entry.action == 'recast':
            target = get_module(student, entry.path)
            assert sum(p.numel() for p in target.parameters()) == weights_of(entry.target), entry.path
            narrower = entry.out_channels != entry.out_shape[0]
            changed += [*entry.modules, *(entry.glue if narrower else ())]
        elif entry.action == 'rebuild':
            changed += entry.modules
    prefixes = tuple(f'{path}.' for path in changed)
    kept = [{k: v for k, v in _shapes(n).items() if not k.startswith(prefixes)} for n in (source, student)]
    assert kept[0] == kept[1] and kept[0] != _shapes(source)


def weights_of(target: dict) -> int:
    """Return the weights of a target block, BN's two per channel included, by its definition."""
    i, o, kernel = target['in_channels'], target['out_channels'], target.get('kernel_size', 3) ** 2
    shortcut = i != o or target['stride'] != 1
    return dict(
        ConvBlock=kernel * i * o + 2 * o,
        BasicBlock=9 * i * o + 9 * o * o + 4 * o + shortcut * (i * o + 2 * o),
        PreActBasicBlock=2 * i + 9 * i * o + 2 * o + 9 * o * o + shortcut * i * o,
    )[target['type']]


def _shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in network.state_dict().items()}


def test_first_middle_and_last_stage_take_a_step(runner):
    for index in stages_to_try(runner):
        take_step(runner, index)


# ---- READMEs and metafiles ------------------------------------------------------------------------------------------


@pytest.mark.parametrize('method', METHODS)
def test_readme_names_every_config(method):
    named = re.findall(rf'{method}_[\w.-]+\.py', (FOLDER / method / 'README.md').read_text())
    assert {f'{method}/{name}' for name in named} == {leaf for leaf in ALL if leaf.startswith(f'{method}/')}


def test_readme_recasts_a_student_again(quick, tmp_path, monkeypatch):
    """The config shown there, with a narrow student in the place of the one it names."""
    code = re.search(r'```python\n(.*?)```', (FOLDER / 'recasting/README.md').read_text(), re.S)[1]
    base, path = re.search(r"_base_ = '(.*)'", code)[1], re.search(r"teacher='(.*)'", code)[1]
    leaf = base.removeprefix('configs/distill/')
    assert Path(path) == Path('work_dirs', Path(leaf).stem, 'student.pth')
    recipe = [dict(source='backbone.layer*.*', target=dict(type='ConvBlock'))]
    first = build_network(dict(type='RecastStudent', source=narrowed(leaf).model.teacher, recipe=recipe))
    monkeypatch.chdir(tmp_path)
    Path(path).parent.mkdir(parents=True)
    save_student(path, first, first.origin)
    (tmp_path / 'again.py').write_text(code.replace(base, str(ROOT / base)))
    runner = ready_runner(narrowed(str(tmp_path / 'again.py')))
    widths = [entry.out_channels for entry in runner.bare_model.plan.entries]
    assert widths == [2] * 9 + [4] * 9 + [8] * 9
    for index in stages_to_try(runner):
        take_step(runner, index)


def test_metafiles():
    listed = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
    assert listed == [f'configs/distill/{path.parent.name}/metafile.yml' for path in sorted(FOLDER.glob('*/README.md'))]
    for path in listed:
        content = yaml.safe_load((ROOT / path).read_text())
        (collection,) = content['Collections']
        assert (ROOT / collection['README']).is_file()
        for model in content.get('Models', []):
            assert model['In Collection'] == collection['Name'] and Path(model['Config']).stem == model['Name']
            assert str(Path(model['Config']).relative_to('configs/distill')) in ALL
