"""Blocks that were trained apart begin a recasting with their weights, and no other block does."""

import pytest
import tiny
import torch
from tiny import config, differing, recasting

from mmrecast.algorithms.trained_blocks import read_trained_block
from mmrecast.planning.candidates import candidates_of
from mmrecast.planning.prices import PriceList
from mmrecast.planning.trained import TrainedCandidates
from mmrecast.registry import MODELS
from mmrecast.stages import Stage
from mmrecast.surgery.chain import find_chain
from mmrecast.utils.checkpoint import save_file

SECOND = 'backbone.layer2.0'
NARROW = 'ConvBlock 4→3'


@pytest.fixture(scope='module')
def made(trained_teacher, tmp_path_factory):
    """The candidates of the second block, a narrow one among them, trained alone."""
    folder = tmp_path_factory.mktemp('trained')
    algorithm = MODELS.build(recasting(teacher_ckpt=trained_teacher))
    teacher = algorithm.teacher
    batches = torch.randn(4, 8, *tiny.SHAPE, generator=torch.Generator().manual_seed(0)).unbind()
    prices = PriceList(teacher, find_chain(teacher, tiny.SHAPE), batches[:1], batches[1:2], folder)
    own = {c.name: c for c in candidates_of(teacher, tiny.SHAPE, ['ConvBlock'], (1, 0.5))[1]}
    trained = TrainedCandidates(prices, batches[2:])
    wanted = [(1, own['ConvBlock 4→6']), (1, own[NARROW])]
    trained.train(wanted)
    return trained, {c.name: trained.known(i, c).file for i, c in wanted}


def recipe(*names: str) -> list[dict]:
    targets = {'full': dict(type='ConvBlock'), 'narrow': dict(type='ConvBlock', out_channels=3)}
    return [dict(source=SECOND, target=targets[name]) for name in names]


@pytest.mark.parametrize(('width', 'name'), [('full', 'ConvBlock 4→6'), ('narrow', NARROW)])
@pytest.mark.parametrize('start', ['xavier', 'closed_form'])
def test_the_student_begins_as_the_candidate_ended(made, trained_teacher, width, name, start):
    file = made[1][name]
    model = recasting(teacher_ckpt=trained_teacher, start=start, next_block='frozen', trained_blocks={SECOND: file})
    algorithm = MODELS.build(model | dict(recipe=recipe(width)))
    (stage,) = algorithm.expand([Stage('recast', iters=1, blocks='all')])
    algorithm.begin_stage(stage)  # without an image
    assert algorithm.start_images_of(stage) == 0
    state = read_trained_block(file).state
    student = algorithm.student.state_dict()
    assert all(torch.equal(student[key], value) for key, value in state.items())
    prices = made[0].prices
    loss = read_trained_block(file).about['loss']
    assert prices.loss_of_swap(SECOND, algorithm.student.eval()) == pytest.approx(loss, rel=1e-5)
    assert not any(p.requires_grad for p in algorithm.student.backbone.layer3.parameters())


def test_two_runs_agree_and_read_no_image_for_the_start(made, trained_teacher, tmp_path):
    stages = [dict(kind='recast', blocks='all', iters=2), dict(kind='finetune', iters=1)]
    model = recasting(
        teacher_ckpt=trained_teacher, start='closed_form', trained_blocks={SECOND: made[1]['ConvBlock 4→6']}
    )
    cfg = config(model | dict(recipe=recipe('full')), stages)
    first = tiny.run(cfg, tmp_path / 'a')
    again = tiny.run(cfg, tmp_path / 'b')
    assert differing(tiny.weights(tmp_path / 'a'), tiny.weights(tmp_path / 'b')) == []
    assert first['stages'][0]['start_images'] == again['stages'][0]['start_images'] == 0


def test_a_start_that_is_better_than_its_end_is_kept(made, tmp_path):
    trained, _ = made
    wild = TrainedCandidates(trained.prices, trained.batches, lr=1e4)
    (candidate,) = [c for c in candidates_of(trained.prices.teacher, tiny.SHAPE, ['ConvBlock'], (1,))[1] if c.target]
    wild.train([(1, candidate)])
    found = wild.known(1, candidate)
    assert (found.error, found.loss) == (found.error_start, found.loss_start)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda files: {'backbone.layer9.0': files[NARROW]}, "the recipe recasts no block 'backbone.layer9.0'"),
        (lambda files: {SECOND: files[NARROW]}, "holds .backbone.layer2.0. as .*'out_channels': 3.*the recipe makes"),
        (lambda files: {SECOND: 'none.pth'}, 'none.pth'),
        (lambda files: ['none.pth'], 'trained_blocks must be files by the paths of their blocks'),
        (lambda files: {SECOND: 3}, 'trained_blocks must be files by the paths of their blocks'),
    ],
)
def test_mistakes(made, trained_teacher, change, message):
    model = recasting(teacher_ckpt=trained_teacher, trained_blocks=change(made[1]))
    with pytest.raises((ValueError, OSError), match=message):
        MODELS.build(model | dict(recipe=recipe('full')))


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (dict(weight=torch.zeros(1)), 'is no block that was trained apart'),
        (dict(teacher='a', block='a', target={}, state={}, about=3), 'about is a int, not a Mapping'),
        (
            dict(teacher='a', block='a', target=dict(x=torch.zeros(2)), state={}, about={}),
            'target and about must be plain data',
        ),
        (dict(teacher='a', block='a', target={}, state=dict(x=3), about={}), 'state must hold tensors by name'),
    ],
)
def test_other_files_are_told(content, message, tmp_path):
    save_file(content, tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=message):
        read_trained_block(tmp_path / 'x.pth')


def test_a_block_that_does_not_fit_is_told(made, trained_teacher):
    file = made[1]['ConvBlock 4→6']
    model = recasting(teacher_ckpt=trained_teacher, trained_blocks={SECOND: file}) | dict(recipe=recipe('full'))
    algorithm = MODELS.build(model)
    with pytest.raises(ValueError, match='does not fit|lacks'):
        algorithm.trained_blocks.load(algorithm.student, SECOND)  # the teacher's block still stands there


def test_a_file_of_another_teacher_is_told(made):
    model = recasting(trained_blocks={SECOND: made[1]['ConvBlock 4→6']}) | dict(recipe=recipe('full'))
    with pytest.raises(ValueError, match='was trained for a teacher with other weights than this one'):
        MODELS.build(model)  # an untrained one


def test_training_needs_a_folder_images_and_a_rate(made):
    prices = made[0].prices
    nowhere = PriceList(prices.teacher, prices.chain, prices.batches, prices.judged)
    for args, options, message in (
        ((nowhere, prices.batches), {}, 'need a folder'),
        ((prices, []), {}, 'without images'),
        ((prices, prices.batches), dict(lr=0), 'learning rate'),
    ):
        with pytest.raises(ValueError, match=message):
            TrainedCandidates(*args, **options)
