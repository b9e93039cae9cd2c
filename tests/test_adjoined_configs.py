"""Configs of Adjoined Networks, of DAN and of their networks alone: names, siblings, schedules, counts, steps."""

import math
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from narrow import FOLDER, SINGLES, narrowed, read, runner_for, take_step
from tiny import differing, tensors

from mmrecast.apis import load_student, ready_runner, save_student
from mmrecast.engine import StagedRunner
from mmrecast.engine.optimizers import fit_scheduler
from mmrecast.models import build_network
from mmrecast.registry import MODELS, PARAM_SCHEDULERS
from mmrecast.stages import Stage
from mmrecast.surgery.plan import Plan
from mmrecast.surgery.student_file import Origin
from mmrecast.surgery.widths import widths_of

NAME = re.compile(
    r'(?P<method>adjoined(?:_detached)?|dan|backprop|kd)_(?P<network>\w+?)(?:_(?P<width>full|alpha(\d+)))?_(?P<data>[^_]+)'
)
LONG = [f'{network}_{data}' for network in ('resnet18', 'resnet50') for data in ('cifar10', 'cifar100', 'imagenet')]
SHORT = ['resnet20b_cifar10-short', 'resnet14b_digits', 'recast_resnet56_convnet_cifar10-short']
EPOCHS = dict(cifar10=100, cifar100=200, imagenet=100)  # the authors'
BATCH = dict(cifar10=32, cifar100=32, imagenet=200)
GAMMA = dict(resnet18=1e-10, resnet50=1e-13)


def parts_of(leaf: str) -> dict[str, str | None]:
    """Return what a leaf's name says."""
    return NAME.fullmatch(leaf.removesuffix('.py').split('/')[1]).groupdict()


def of(method: str) -> list[str]:
    return [leaf for leaf in SINGLES if leaf.startswith(f'{method}/')]


# ---- what stands in the files ---------------------------------------------------------------------------------------


def test_which_there_are():
    wanted = {
        f'{network}_alpha{alpha}_{data}'
        for network, data in map(lambda s: s.split('_'), LONG)
        for alpha in (2, 4, 8, 16)
    }
    found = {leaf.removeprefix('adjoined/adjoined_').removesuffix('.py') for leaf in of('adjoined')}
    assert found >= wanted
    assert {parts_of(leaf)['network'] + '_' + parts_of(leaf)['data'] for leaf in of('adjoined')} == {*LONG, *SHORT}
    assert {leaf.removeprefix('dan/dan_').removesuffix('.py') for leaf in of('dan')} == {*LONG, *SHORT[:2]}


@pytest.mark.parametrize('leaf', SINGLES)
def test_a_leaf_says_what_its_name_says(leaf):
    parts, cfg = parts_of(leaf), read(leaf)
    single = f'{parts["network"]}_{parts["data"]}'
    assert re.findall(r'_base_/singles/([\w.-]+)\.py', (FOLDER / leaf).read_text()) == [single]
    alpha = None if parts['width'] in (None, 'full') else int(parts['width'].removeprefix('alpha'))
    if parts['method'] in ('adjoined', 'adjoined_detached', 'dan'):
        assert cfg.model.network == cfg.network and cfg.model.get('alpha') == alpha
        assert cfg.model.get('above', 64) == cfg.get('above', 64)
        return
    student = cfg.model.student
    if parts['width'] == 'full':
        assert student == cfg.network
        return
    shape = tuple(student.pop('input_shape'))
    assert shape == tuple(cfg.data_preprocessor.input_shape) and student.get('above', 64) == cfg.get('above', 64)
    student.pop('above', None)
    assert student == dict(type='NarrowStudent', source=cfg.network, alpha=alpha)


@pytest.mark.parametrize('leaf', [leaf for leaf in of('adjoined') if '_recast_' not in leaf])
def test_both_networks_are_trained_alone_as_well(leaf):
    """By the same schedule, on the same data."""
    ours, alpha = read(leaf), parts_of(leaf)['width']
    for width in (alpha, 'full'):
        theirs = read(leaf.replace('_detached', '').replace('adjoined', 'backprop').replace(alpha, width))
        for key in ('train_cfg', 'optim_wrapper', 'param_scheduler', 'train_dataloader', 'data_preprocessor'):
            assert theirs[key] == ours[key], key


def test_the_narrow_network_is_taught_by_the_full_one_trained_alone():
    (leaf,) = of('kd')
    model = read(leaf).model
    folder, name, file = model.teacher_ckpt.split('/')
    assert (folder, file) == ('work_dirs', 'student.pth')
    assert read(f'backprop/{name}.py').model.student == model.teacher
    assert read(leaf.replace('kd', 'backprop')).model.student == model.student


def test_the_student_of_a_recasting_is_where_its_config_leaves_it():
    (leaf,) = [leaf for leaf in of('adjoined') if '_recast_' in leaf]
    folder, name, file = read(leaf).model.network.split('/')
    assert (folder, file) == ('work_dirs', 'student.pth') and (FOLDER / f'recasting/{name}.py').is_file()
    recasting = read(f'recasting/{name}.py')
    assert read(leaf).data_preprocessor.mean == recasting.data_preprocessor.mean


@pytest.mark.parametrize('single', LONG)
def test_settings_of_the_authors(single):
    network, data = single.split('_')
    cfg = read(f'dan/dan_{single}.py')
    assert cfg.train_dataloader.batch_size == BATCH[data]
    assert [(stage.kind, stage.epochs) for stage in cfg.train_cfg.stages] == [
        ('search', EPOCHS[data]),
        ('train', EPOCHS[data]),
    ]
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW', lr=4e-3, betas=(0.95, 0.99), eps=1e-6, weight_decay=1e-2)
    assert (tuple(cfg.model.divisors), cfg.model.gamma, cfg.model.tau) == ((1, 2, 4), GAMMA[network], 15.0)
    adjoined = read(f'adjoined/adjoined_{network}_alpha4_{data}.py')
    assert [dict(stage) for stage in adjoined.train_cfg.stages] == [dict(kind='train', epochs=EPOCHS[data])]
    for model in (cfg.model, adjoined.model):
        assert (model.kl_weight, model.warmup) == (1.0, 0.5)
        assert model.kd_loss == dict(type='KLDivergence', tau=1.0, teacher_detach=False)


@pytest.mark.parametrize('single', SHORT[:2])
def test_short_rows_see_as_many_images(single):
    network, data = single.split('_')
    adjoined, dan = read(f'adjoined/adjoined_{network}_alpha4_{data}.py'), read(f'dan/dan_{single}.py')
    (train,) = adjoined.train_cfg.stages
    assert [stage.kind for stage in dan.train_cfg.stages] == ['search', 'train']
    assert sum(stage.iters for stage in dan.train_cfg.stages) == train.iters
    assert adjoined.train_dataloader.drop_last and dan.train_dataloader == adjoined.train_dataloader


# ---- the schedule, by hand ------------------------------------------------------------------------------------------


def values_of(cfg: Config, entry: dict, batches: int) -> dict[str, list[float]]:
    """Return rate, beta1 and tau at every iteration of a stage, with ``batches`` in an epoch."""
    stage = Stage.from_config(entry)
    settings = {key: value for key, value in cfg.optim_wrapper.optimizer.items() if key != 'type'}
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], **settings)
    optimizer.param_groups[0]['tau'] = cfg.model.get('tau')
    schedulers = stage.param_scheduler if stage.param_scheduler is not None else cfg.param_scheduler
    built = [
        PARAM_SCHEDULERS.build(
            fit_scheduler(stage, dict(one), batches), default_args=dict(optimizer=optimizer, epoch_length=batches)
        )
        for one in schedulers
    ]
    found = dict(lr=[], beta1=[], tau=[])
    for iteration in range(stage.total_iters(batches)):
        group = optimizer.param_groups[0]
        for name, value in (('lr', group['lr']), ('beta1', group['betas'][0]), ('tau', group['tau'])):
            found[name].append(value)
        optimizer.step()
        for scheduler in built:
            if not scheduler.by_epoch or (iteration + 1) % batches == 0:
                scheduler.step()
    return found


@pytest.mark.parametrize('data', EPOCHS)
def test_one_cycle(data):
    """From lr/10 to lr over a tenth, to lr/1e5 over the rest, both by half a cosine; beta1 against it."""
    cfg, batches = read(f'adjoined/adjoined_resnet18_alpha4_{data}.py'), 5
    n = EPOCHS[data] * batches
    found = values_of(cfg, cfg.train_cfg.stages[0], batches)
    lr, beta1, top = found['lr'], found['beta1'], n // 10
    assert lr[0] == pytest.approx(4e-4) and lr[top - 1] == pytest.approx(4e-3) and lr[-1] == pytest.approx(4e-8)
    assert lr.index(max(lr)) == top - 1
    half = (n - top) / 2  # steps behind the top
    assert lr[int(top - 1 + half)] == pytest.approx((4e-3 + 4e-8) / 2, rel=1e-3)
    quarter = 4e-8 + (4e-3 - 4e-8) * (1 + math.cos(math.pi / 4)) / 2
    assert lr[int(top - 1 + half / 2)] == pytest.approx(quarter, rel=2e-2)
    assert beta1[0] == pytest.approx(0.95) and beta1[top // 2] == pytest.approx(0.9, abs=2e-3)
    assert beta1[top] == pytest.approx(0.85, abs=1e-3) and beta1[-1] == pytest.approx(0.95, abs=1e-3)
    assert min(range(n), key=beta1.__getitem__) in (top - 1, top) and max(beta1) <= 0.95 + 1e-9


@pytest.mark.parametrize('single', ['resnet18_cifar10', 'resnet50_cifar100'])
def test_tau_falls_at_every_epoch_of_the_search(single):
    cfg = read(f'dan/dan_{single}.py')
    search, train = cfg.train_cfg.stages
    found = values_of(cfg, search, batches=3)
    wanted = [15 * 0.956**epoch for epoch in range(EPOCHS[single.split('_')[1]]) for _ in range(3)]
    assert found['tau'] == pytest.approx(wanted)
    after = values_of(cfg, train, batches=3)
    assert after['lr'] == found['lr'] and after['beta1'] == found['beta1']  # a cycle each
    assert set(after['tau']) == {15.0}


@pytest.mark.parametrize(('single', 'last'), [('resnet20b_cifar10-short', 0.16), ('resnet14b_digits', 0.25)])
def test_tau_falls_at_every_iteration_of_a_short_search(single, last):
    cfg = read(f'dan/dan_{single}.py')
    cfg.optim_wrapper.optimizer = dict(lr=0.05)
    stage = cfg.train_cfg.stages[0]
    found = values_of(cfg, stage, batches=11)
    factor = stage.param_scheduler[-1].gamma
    assert found['tau'] == pytest.approx([15 * factor**i for i in range(stage.iters)])
    assert found['tau'][-1] == pytest.approx(last, rel=0.05)
    assert found['lr'] == pytest.approx([0.025 * (1 + math.cos(math.pi * i / stage.iters)) for i in range(stage.iters)])


# ---- the networks at their full width -------------------------------------------------------------------------------


def basic(widths: list[int], blocks: int, classes: int, stem: int, channels: int) -> int:
    """Count the weights of a ResNet of basic blocks: convolutions, two per BN channel, the classifier."""
    count, c = stem**2 * channels * widths[0] + 2 * widths[0], widths[0]
    for stage, w in enumerate(widths):
        for block in range(blocks):
            count += 9 * c * w + 9 * w * w + 4 * w
            count += c * w + 2 * w if stage and not block else 0  # the projection
            c = w
    return count + c * classes + classes


def bottlenecks(alpha: int, classes: int, stem: int) -> int:
    """Count those of ResNet-50, of which everything but stem and first stage is divided by ``alpha``."""
    count, c = stem**2 * 3 * 64 + 2 * 64, 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        m = 64 * 2**stage // (alpha if stage else 1)
        for block in range(blocks):
            count += c * m + 9 * m * m + m * 4 * m + 2 * (m + m + 4 * m)
            count += 0 if block else c * 4 * m + 2 * 4 * m
            c = 4 * m
    return count + c * classes + classes


def counts_of(network: str, data: str, alpha: int) -> int:
    """Return the weights of a network that keeps stem and first stage, by hand."""
    classes = dict(imagenet=1000, cifar100=100).get(data, 10)
    stem = 7 if data == 'imagenet' else 3
    if network == 'resnet50':
        return bottlenecks(alpha, classes, stem)
    first, blocks = dict(resnet18=(64, 2), resnet20b=(16, 3), resnet14b=(16, 2))[network]
    stages = 4 if network == 'resnet18' else 3
    widths = [first, *(first * 2**stage // alpha for stage in range(1, stages))]
    return basic(widths, blocks, classes, stem, channels=1 if data == 'digits' else 3)


COUNTED = [leaf for leaf in of('adjoined') if '_recast_' not in leaf and 'cifar100' not in leaf]


def test_counting_by_hand_is_right():
    """Published numbers of parameters: ResNet-18 and ResNet-50 of torchvision."""
    assert counts_of('resnet18', 'imagenet', 1) == 11_689_512 and counts_of('resnet50', 'imagenet', 1) == 25_557_032


@pytest.mark.parametrize('leaf', COUNTED)
def test_full_and_narrow_network_have_the_weights_of_their_definition(leaf):
    """Both of an adjoined pair, and the narrow one alone, which is the same network."""
    parts, cfg = parts_of(leaf), read(leaf)
    alpha = int(parts['width'].removeprefix('alpha'))
    algorithm = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    found = {name: sum(p.numel() for p in net.parameters()) for name, (net, _) in algorithm.kept_networks.items()}
    wanted = [counts_of(parts['network'], parts['data'], divisor) for divisor in (alpha, 1)]
    assert found == {'': wanted[0], 'full': wanted[1]}
    alone = build_network(read(leaf.replace('_detached', '').replace('adjoined', 'backprop')).model.student)
    shapes = [
        {name: value.shape for name, value in net.state_dict().items()} for net in (alone, algorithm.student.extract())
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize('leaf', [leaf for leaf in of('dan') if 'cifar100' not in leaf])
def test_a_search_is_over_the_layers_that_adjoined_networks_narrow(leaf):
    parts, dan = parts_of(leaf), read(leaf)
    adjoined = read(f'adjoined/adjoined_{parts["network"]}_alpha4_{parts["data"]}.py')
    found, fixed = (MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor)) for cfg in (dan, adjoined))
    names = list(found.width_distribution())
    assert widths_of(found.graph, dict.fromkeys(names, 4)) == fixed.small_widths


# ---- trained, with narrow networks ----------------------------------------------------------------------------------


@pytest.fixture(scope='module', params=SINGLES)
def runner(request, quick, tmp_path_factory) -> StagedRunner:
    """Everything that the training of a config needs, ready for the first batch."""
    return runner_for(request.param, tmp_path_factory.mktemp('run'))


def test_every_stage_takes_a_step(runner):
    for index in range(len(runner.train_loop.stages)):
        take_step(runner, index)


def test_a_recast_student_is_adjoined_with_its_weights(quick, tmp_path, monkeypatch):
    """From the file that the config names, to files of both networks."""
    leaf = 'adjoined/adjoined_recast_resnet56_convnet_alpha2_cifar10-short.py'
    path, cfg = read(leaf).model.network, narrowed(leaf)
    torch.manual_seed(0)
    recast = build_network(cfg.model.network)
    monkeypatch.chdir(tmp_path)
    Path(path).parent.mkdir(parents=True)
    parts = cfg.model.network.to_dict()
    save_student(path, recast, Origin(parts['source'], Plan.from_dict(parts['plan'])))
    cfg.model.network = path
    algorithm = ready_runner(cfg, work_dir='run').bare_model
    assert not differing(tensors(algorithm.student.full), tensors(recast))
    image = torch.rand(2, 3, 32, 32)
    for name, (network, origin) in algorithm.eval().kept_networks.items():
        save_student(f'{name}.pth', network, origin)
        again = load_student(f'{name}.pth')
        assert torch.equal(again(image), network(image))
        widths = [again.get_submodule(f'backbone.layer{stage}.8').conv.out_channels for stage in (1, 2, 3)]
        assert widths == ([4, 8, 16] if name else [4, 4, 8])


@pytest.mark.parametrize('leaf', [leaf for leaf in of('adjoined') if '_detached_' in leaf])
def test_the_detached_variant_differs_in_where_the_divergence_has_a_gradient(leaf):
    detached, plain = read(leaf).model, read(leaf.replace('_detached', '')).model
    assert detached.kd_loss.pop('teacher_detach') is True and plain.kd_loss.pop('teacher_detach') is False
    assert detached == plain
