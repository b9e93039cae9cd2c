"""An algorithm whose parts train with an optimiser each: rates, resume, processes, and what is refused."""

import copy
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from plain_generator import RATES, adam, data_free
from tiny import (
    NO_TEST,
    NO_VAL,
    Killed,
    classifier,
    config,
    differing,
    loader,
    preprocessor,
    run,
    weights,
    without_seconds,
)

from mmrecast.apis import ready_runner
from mmrecast.engine.optimizers import check_optimizer, fit_scheduler, named_optimizers, schedulers_by_name
from mmrecast.stages import Stage, check_schedulers
from mmrecast.utils.checkpoint import load_file

pytestmark = pytest.mark.usefixtures('quick')

ROOT = Path(__file__).resolve().parents[2]
SGD = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05, momentum=0.9))
CLIPPED = SGD | dict(clip_grad=dict(max_norm=1.0))
TRAIN = [dict(kind='train', iters=7)]
DROPPING = data_free(
    student=dict(type='PlainNet', dropout=0.3),
    teacher=dict(type='PlainNet'),
    generator=dict(type='PlainGenerator'),
    student_iter=2,
)


def ready(tmp_path, model=DROPPING, stages=TRAIN, **changes):
    cfg = config(model, stages, **dict(optim_wrapper=RATES, param_scheduler=None) | changes)
    return ready_runner(cfg, work_dir=str(tmp_path / 'run'))


# ---- what trains at which rate --------------------------------------------------------------------------------------


class Rates:
    """Notes the rates of every step."""

    def __init__(self, runner):
        self.rates = dict(student=[], generator=[])
        step, optimizers = runner.bare_model.train_step, runner

        def noting(data, optim_wrapper):
            for name, wrapper in optimizers.optim_wrapper.items():
                self.rates[name].append(wrapper.optimizer.param_groups[0]['lr'])
            return step(data, optim_wrapper)

        runner.bare_model.train_step = noting


def test_each_part_has_its_own_optimiser_and_schedule(tmp_path):
    schedulers = dict(
        student=[dict(type='MultiStepLR', milestones=[2, 4], gamma=0.1, by_epoch=False)],
        generator=dict(type='CosineAnnealingLR'),  # over the stage, by iterations
    )
    runner = ready(tmp_path, optim_wrapper=dict(student=SGD, generator=adam(0.01)), param_scheduler=schedulers)
    noted = Rates(runner)
    runner.train()
    optimizers = runner.optim_wrapper
    assert [type(optimizers[name].optimizer).__name__ for name in ('student', 'generator')] == ['SGD', 'Adam']
    for name, network in (('student', runner.bare_model.student), ('generator', runner.bare_model.generator)):
        trained = [p for group in optimizers[name].optimizer.param_groups for p in group['params']]
        assert {id(p) for p in trained} == {id(p) for p in network.parameters()}
    assert noted.rates['student'] == pytest.approx([0.05, 0.05, 0.005, 0.005, 0.0005, 0.0005, 0.0005])
    cosine = [0.005 * (1 + torch.cos(torch.tensor(torch.pi * i / 7)).item()) for i in range(7)]
    assert noted.rates['generator'] == pytest.approx(cosine)


def test_schedulers_without_names_are_for_all(tmp_path):
    step = dict(type='StepLR', step_size=3, gamma=0.5, by_epoch=False)
    runner = ready(tmp_path, param_scheduler=step, optim_wrapper=dict(student=SGD, generator=adam(0.01)))
    noted = Rates(runner)
    runner.train()
    for name, rate in (('student', 0.05), ('generator', 0.01)):
        assert noted.rates[name] == pytest.approx([rate] * 3 + [rate / 2] * 3 + [rate / 4])


def test_a_stage_may_have_its_own(tmp_path):
    """Where the config's own is that of a single optimiser, as a base file for other methods has it."""
    stages = [
        dict(kind='train', iters=2, optim_wrapper=RATES, param_scheduler=dict(student=dict(type='StepLR', step_size=1)))
    ]
    runner = ready(tmp_path, stages=stages, optim_wrapper=SGD, param_scheduler=dict(type='CosineAnnealingLR'))
    runner.train()
    assert list(runner.optim_wrapper.keys()) == ['student', 'generator']


def test_learned_parts_of_links_belong_to_the_student(tmp_path):
    link = dict(
        student='block1', teacher='block1', loss=dict(type='MSELoss'),
        connector=dict(type='ConvModuleConnector'),
    )  # fmt: skip
    runner = ready(
        tmp_path, model=DROPPING | dict(links=[*DROPPING['links'], link]), stages=[dict(kind='train', iters=1)]
    )
    runner.train()
    trained = [p for g in runner.optim_wrapper['student'].optimizer.param_groups for p in g['params']]
    connector = list(runner.bare_model.links[1].connector.parameters())
    assert connector and {id(p) for p in connector} <= {id(p) for p in trained}


def test_accumulated_gradients_step_as_often_as_they_should(tmp_path):
    """7 iterations: 14 steps of the student by 3 are 5, the last with what is left; 7 of the generator by 2 are 4."""
    both = dict(student=SGD | dict(accumulative_counts=3), generator=SGD | dict(accumulative_counts=2))
    runner = ready(tmp_path, optim_wrapper=both)
    steps = dict(student=0, generator=0)
    original = runner.set_optimizer

    def counting(*args):
        original(*args)
        for name, wrapper in runner.optim_wrapper.items():

            def step(name=name, do=wrapper.optimizer.step, **kwargs):  # fmt: skip
                steps[name] += 1
                return do(**kwargs)

            wrapper.optimizer.step = step

    runner.set_optimizer = counting
    runner.train()
    assert steps == dict(student=5, generator=4)


# ---- resume ---------------------------------------------------------------------------------------------------------

BY_NAME = dict(
    student=dict(type='CosineAnnealingLR'), generator=[dict(type='StepLR', step_size=2, gamma=0.5, by_epoch=False)]
)
VARIANTS = {
    'schedules by name, momentum and clipping': (
        DROPPING, dict(optim_wrapper=dict(student=CLIPPED, generator=adam(0.01)), param_scheduler=BY_NAME),
    ),
    'accumulated gradients': (
        DROPPING,
        dict(optim_wrapper=dict(
            student=SGD | dict(accumulative_counts=3), generator=adam(0.01, accumulative_counts=2)
        )),
    ),
    'images shared': (data_free('zskt', student_iter=2), dict(optim_wrapper=RATES)),
    'one batch for both': (data_free('dafl'), dict(optim_wrapper=RATES, param_scheduler=BY_NAME)),
    'no validation': (data_free(student_iter=1), dict(optim_wrapper=RATES, **NO_VAL, **NO_TEST)),
}  # fmt: skip
STAGES = [dict(kind='train', iters=5), dict(kind='train', epochs=1)]  # three iterations an epoch


def last(work_dir: Path) -> dict:
    return load_file((work_dir / 'last_checkpoint').read_text())


def flat(value: object, name: str = '') -> dict[str, object]:
    """Return the leaves of nested dicts and lists by their path."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else None
    if items is None:
        return {name: value}
    return {k: v for key, one in items for k, v in flat(one, f'{name}/{key}').items()}


@pytest.mark.parametrize('name', VARIANTS)
def test_killed_and_resumed(tmp_path, name):
    """Killed one iteration after a checkpoint, within an epoch, at its end and in the second stage: the same bits."""
    model, changes = VARIANTS[name]
    cfg = config(model, STAGES, checkpoint=dict(iter_interval=1), **changes)
    whole = run(cfg, tmp_path / 'whole')
    for iteration in (3, 4, 7):
        with pytest.raises(Killed):
            run(cfg, tmp_path / 'killed', dict(kind='iter', n=iteration, before=True), resume=iteration > 3)
        assert last(tmp_path / 'killed')['staged']['iter'] == iteration - 1
    content = last(tmp_path / 'killed')
    assert set(content['optimizer']) == {'student', 'generator'}
    resumed = run(cfg, tmp_path / 'killed', resume=True)
    assert differing(weights(tmp_path / 'killed'), weights(tmp_path / 'whole')) == []
    ours, theirs = (last(tmp_path / folder) for folder in ('killed', 'whole'))
    assert differing(ours['state_dict'], theirs['state_dict']) == []
    assert any(key.startswith('generator.') for key in ours['state_dict'])
    assert without_seconds(resumed) == without_seconds(whole)


def test_the_state_of_both_optimisers_is_kept(tmp_path):
    """Killed in the last iteration, the checkpoint before it holds the bits of the run that was left alone there."""
    cfg = config(DROPPING, TRAIN, checkpoint=dict(iter_interval=1), optim_wrapper=RATES, param_scheduler=BY_NAME)
    for folder, kills in (('once', [7]), ('twice', [4, 7])):
        for i, n in enumerate(kills):
            with pytest.raises(Killed):
                run(cfg, tmp_path / folder, dict(kind='iter', n=n, before=True), resume=i > 0)
    once, twice = (last(tmp_path / folder) for folder in ('once', 'twice'))
    for part in ('optimizer', 'param_schedulers', 'state_dict', 'random'):
        one, other = flat(once[part]), flat(twice[part])
        assert one.keys() == other.keys() and len(one) > 3
        for key, value in one.items():
            same = torch.equal(value, other[key]) if isinstance(value, torch.Tensor) else value == other[key]
            assert same, (part, key)


def test_another_generator_is_refused(tmp_path):
    cfg = config(DROPPING, TRAIN, optim_wrapper=RATES)
    with pytest.raises(Killed):
        run(cfg, tmp_path, dict(kind='epoch', n=1))
    other = copy.deepcopy(cfg)
    other.model.student_iter = 3
    with pytest.raises(ValueError, match='cannot be resumed: it was written with another generator'):
        run(other, tmp_path, resume=True)
    other = copy.deepcopy(cfg)
    other.optim_wrapper.generator.optimizer.lr = 0.5
    with pytest.raises(ValueError, match='cannot be resumed: it was written with another schedule'):
        run(other, tmp_path, resume=True)


# ---- two processes --------------------------------------------------------------------------------------------------


def plain(batch: int):
    """Return a config without BatchNorm or dropout, on which the number of processes makes no difference."""
    model = data_free(
        student=dict(type='PlainNet'), teacher=dict(type='PlainNet'), generator=dict(type='PlainGenerator'),
        student_iter=2,
        generator_links=[
            dict(student='logits', teacher='logits', loss=dict(type='DiscrepancyLoss', loss_weight=-1.0), name='far'),
            dict(teacher='logits', loss=dict(type='InformationEntropyLoss', loss_weight=5.0), name='entropy'),
        ],
    )  # fmt: skip
    both = dict(student=SGD, generator=SGD)
    return config(model, TRAIN, optim_wrapper=both, param_scheduler=None, train_dataloader=loader('train', 96, batch))


def test_two_processes_do_as_one(tmp_path):
    """The same total batch gives the same weights of both parts but for rounding: noise is shared out, not repeated."""
    cfg = plain(16)
    cfg.custom_imports = dict(imports=['tiny', 'plain_generator'], allow_failed_imports=False)
    cfg.dump(tmp_path / 'two.py')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    environment = dict(
        PYTHON=sys.executable, PORT=str(port), OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT / 'tests'),
        CUDA_VISIBLE_DEVICES='',
    )  # fmt: skip
    command = ['bash', 'tools/dist_train.sh', str(tmp_path / 'two.py'), '2', '--work-dir', str(tmp_path / 'two')]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    alone = run(plain(32), tmp_path / 'one')
    ours, theirs = (last(tmp_path / folder)['state_dict'] for folder in ('two', 'one'))
    assert ours.keys() == theirs.keys() and 'generator.linear.weight' in ours
    for name in ours:
        assert (ours[name] - theirs[name]).norm() < 1e-4 * theirs[name].norm(), name
    result = json.loads((tmp_path / 'two' / 'result.json').read_text())
    assert result['machine']['processes'] == 2 and result['images'] == alone['images']


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('changes', 'match'),
    [
        (dict(optim_wrapper=SGD), "'train': student and generator have one each: optim_wrapper=dict.student=dict"),
        (dict(optim_wrapper=dict(student=SGD)), "'train': there is none for generator: optim_wrapper=dict.student"),
        (dict(optim_wrapper=dict(generator=SGD)), 'there is none for student'),
        (
            dict(optim_wrapper=dict(RATES, teacher=SGD)),
            "nothing is called 'teacher' that could be trained .nearest: generator",
        ),
        (
            dict(optim_wrapper=dict(student=SGD, generator=dict(type='OptimWrapper'))),
            'generator: it is given as optim_wrapper=',
        ),
        (
            dict(optim_wrapper=dict(student=SGD, generator=adam(float('nan')))),
            'generator: lr must be a number, got nan',
        ),
        (
            dict(param_scheduler=dict(studnt=dict(type='StepLR', step_size=1))),
            "param_scheduler is given for 'studnt', which is no optimiser .nearest: student",
        ),
        (
            dict(param_scheduler=dict(student=dict(type='StepLR', step_size=0))),
            "optimiser of stage 'train': student: ",
        ),
        (dict(param_scheduler=dict(student=[dict(step_size=1)])), r"must be a dict\(type='CosineAnnealingLR', …\)"),
    ],
)
def test_wrong_optimisers_show_before_the_first_batch(tmp_path, changes, match):
    with pytest.raises(ValueError, match=match):
        ready(tmp_path, **changes)
    assert not (tmp_path / 'run').exists()


def test_several_where_there_is_one(tmp_path):
    model = dict(type='SingleTeacherDistill', student=classifier(), data_preprocessor=preprocessor())
    with pytest.raises(ValueError, match='several are given .student, generator., but all that trains here has one'):
        ready(tmp_path, model=model)
    schedulers = dict(student=dict(type='StepLR', step_size=1))
    with pytest.raises(ValueError, match='param_scheduler is given for student, but there is one optimiser only'):
        ready(tmp_path, model=model, optim_wrapper=SGD, param_scheduler=schedulers)


# ---- forms ----------------------------------------------------------------------------------------------------------


def test_one_and_several_are_told_apart():
    assert named_optimizers(SGD) == named_optimizers(None) == named_optimizers(dict(type='OptimWrapper')) == {}
    assert named_optimizers(dict(RATES, constructor='SeparateOptimWrapperConstructor')) == RATES
    mixed = named_optimizers(dict(RATES, type='AmpOptimWrapper'))  # as --amp writes it
    assert {name: one['type'] for name, one in mixed.items()} == dict.fromkeys(RATES, 'AmpOptimWrapper')
    with pytest.raises(ValueError, match='it is given as optim_wrapper='):
        check_optimizer('x', dict(type='OptimWrapper', optimzer=dict(type='SGD', lr=0.1)))


def test_schedulers_are_shared_out():
    step, cosine = dict(type='StepLR', step_size=1), dict(type='CosineAnnealingLR')
    assert schedulers_by_name([step, cosine], ['a', 'b']) == dict(a=[step, cosine], b=[step, cosine])
    assert schedulers_by_name([dict(a=step)], ['a', 'b']) == dict(a=[step], b=[])
    assert schedulers_by_name([step], []) == {'': [step]}
    fitted = fit_scheduler(Stage('train', iters=9), dict(a=cosine, b=[step]), 3)
    assert fitted['a'][0]['T_max'] == 9 and fitted['a'][0]['by_epoch'] is False
    assert fitted['b'][0]['end'] == 9
    check_schedulers(dict(a=step, b=[cosine]), 'param_scheduler')
    with pytest.raises(ValueError, match='param_scheduler must be a dict.*got {.a.: {}}'):
        check_schedulers(dict(a=dict()), 'param_scheduler')
    with pytest.raises(ValueError, match='train: param_scheduler must be a dict'):
        Stage('train', iters=1, param_scheduler=dict(student=dict(step_size=1)))
