"""A student as the teacher of the next recasting: by its file, in a config."""

import copy

import pytest
import torch
from tiny import SHAPE, Killed, config, differing, recasting, run, tensors

from mmrecast.apis import load_student
from mmrecast.models import build_network, check_constructor
from mmrecast.registry import MODELS
from mmrecast.utils.checkpoint import load_file

pytestmark = pytest.mark.usefixtures('quick')

STAGES = [dict(kind='recast', blocks='all', iters=2), dict(kind='finetune', iters=2)]
NARROWER = [dict(source='backbone.layer*.*', target=dict(type='ConvBlock', width_ratio=0.5))]


@pytest.fixture(scope='module')
def first(tmp_path_factory, trained_teacher, quick):
    """student.pth of a first recasting."""
    folder = tmp_path_factory.mktemp('first')
    run(config(recasting(teacher_ckpt=trained_teacher), STAGES), folder)
    return str(folder / 'student.pth')


def test_a_students_file_is_a_teacher(first, tmp_path):
    result = run(config(recasting(teacher=first, recipe=NARROWER), STAGES), tmp_path)
    once, twice = load_student(first), load_student(tmp_path / 'student.pth')
    assert [b[0].conv.out_channels for b in (once.backbone.layer1, twice.backbone.layer1)] == [4, 2]
    assert twice.head.fc.in_features == 4
    constructor = load_file(tmp_path / 'student.pth')['constructor']
    check_constructor(constructor)
    assert constructor['type'] == 'RecastNetwork' and constructor['source']['type'] == 'mmpretrain.ImageClassifier'
    assert result['teacher']['top1'] is not None

    # and so on: the student of the student of the student
    algorithm = MODELS.build(recasting(teacher=str(tmp_path / 'student.pth'), recipe=NARROWER))
    assert not differing(tensors(algorithm.teacher), tensors(twice))
    assert algorithm.origin.constructor['source']['type'] == 'RecastNetwork'


def test_a_run_from_a_students_file_resumes(first, tmp_path):
    cfg = config(recasting(teacher=first, recipe=NARROWER), STAGES)
    run(cfg, tmp_path / 'whole')
    with pytest.raises(Killed):
        run(cfg, tmp_path / 'cut', crash=dict(kind='stage', n=2))
    run(cfg, tmp_path / 'cut', resume=True)
    one, other = (load_file(tmp_path / name / 'student.pth')['weights'] for name in ('whole', 'cut'))
    assert not differing(one, other)


def test_the_untrained_sibling_starts_from_the_same_architecture(first):
    student = MODELS.build(dict(type='RecastStudent', source=first, recipe=NARROWER, input_shape=SHAPE))
    assert student.backbone.layer1[0].conv.out_channels == 2
    assert student.origin.constructor['type'] == 'RecastNetwork'


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(source='configs/x.py'), "a constructor is a dict with 'type', got str"),
        (dict(source=dict(type='os.system')), "'os.system' is not registered"),
        (dict(plan=dict(input_shape=[1, 8, 8])), "not a recasting plan: it lacks 'entries'"),
    ],
)
def test_a_constructor_of_a_stranger_is_checked(first, change, message):
    content = load_file(first)
    cfg = dict(type='RecastNetwork', source=content['constructor'], plan=content['plan'])
    assert build_network(copy.deepcopy(cfg))(torch.zeros(2, *SHAPE)).shape == (2, 10)
    with pytest.raises(ValueError, match=message):
        build_network(cfg | change)


def test_a_file_that_is_no_student_is_told(trained_teacher):
    with pytest.raises(ValueError, match='is not a student file'):
        MODELS.build(recasting(teacher=trained_teacher))
