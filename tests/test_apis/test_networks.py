import inspect
import json

import pytest
import torch
from mmengine.config import Config
from tiny import CHAIN, SHAPE, classifier, recasting

from mmrecast.algorithms import DifferentiableAdjoinedNetwork
from mmrecast.algorithms.narrow_student import narrow_by
from mmrecast.apis.networks import network_configs, networks_of
from mmrecast.models import build_network
from mmrecast.surgery.apply import replay
from mmrecast.surgery.plan import make_plan
from mmrecast.surgery.student_file import Origin, save_student

RECIPE = [dict(source='backbone.layer*.*', target='ConvBlock')]
ABSENT = 'no/such/teacher.pth'


@pytest.fixture
def write(tmp_path):
    """Write a config with this model, return its path."""

    def write_config(model, name='run.py', **others):
        path = tmp_path / name
        Config(dict(model=model, **others)).dump(path)
        return str(path)

    return write_config


def sizes(network):
    return sum(p.numel() for p in network.parameters())


def student(**changes):
    return dict(type='RecastStudent', source=classifier(), recipe=RECIPE, input_shape=SHAPE) | changes


def test_a_recasting(write):
    got = networks_of(write(recasting(teacher_ckpt=ABSENT)))
    assert (got.name, got.input_shape) == ('run', SHAPE)
    assert got.plan is got.student_plan and [e.path for e in got.plan.entries] == CHAIN[::2]
    # By hand: a basic block of width w reads i channels: 9iw + 9ww weights and two BN; a convolution 9iw and one.
    # Option-A shortcuts have no weights.
    saved = sum(9 * w * w + 2 * w for w in (4, 6, 8))
    assert sizes(got.teacher) - sizes(got.student) == saved
    assert not got.teacher.training and not got.student.training
    assert got.teacher_constructor == got.student_constructor
    assert all(p.requires_grad for p in got.student.parameters())


def test_teacher_and_student_share_nothing(write):
    got = networks_of(write(recasting()))
    assert not {p.data_ptr() for p in got.teacher.parameters()} & {p.data_ptr() for p in got.student.parameters()}


def test_weights_are_never_read(write):
    teacher = classifier()
    teacher['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint=ABSENT)
    got = networks_of(write(recasting(teacher=teacher)))
    assert 'init_cfg' not in json.dumps(got.teacher_constructor) and got.plan is not None


def test_methods_of_one_recipe_have_the_same_networks(write):
    model = recasting(teacher_ckpt=ABSENT)
    configs = [
        write(model, 'a.py'),
        write(dict(type='SingleTeacherDistill', teacher=classifier(), teacher_ckpt=ABSENT, student=student()), 'b.py'),
        write(dict(type='SingleTeacherDistill', student=student()), 'c.py'),  # the source stands for the teacher
        write(student(), 'd.py'),
    ]
    one, *others = map(networks_of, configs)
    for other in others:
        assert (other.teacher_constructor, other.student_constructor) == (one.teacher_constructor,) * 2
        assert other.plan == other.student_plan == one.plan
        assert sizes(other.student) == sizes(one.student) and sizes(other.teacher) == sizes(one.teacher)


def test_a_plan_of_another_source_is_not_the_teachers(write):
    model = dict(type='SingleTeacherDistill', teacher=classifier(depth=14), student=student())
    got = networks_of(write(model))
    assert got.plan is None and [e.path for e in got.student_plan.entries] == CHAIN[::2]
    assert (got.teacher_constructor['backbone']['depth'], got.student_constructor['backbone']['depth']) == (14, 8)
    assert sizes(got.teacher) == sizes(build_network(classifier(depth=14)))


def test_a_student_without_a_recipe(write):
    model = dict(type='SingleTeacherDistill', teacher=classifier(depth=14), student=classifier())
    got = networks_of(write(model, data_preprocessor=dict(type='BatchPreprocessor', input_shape=SHAPE)))
    assert (got.plan, got.student_plan, got.input_shape) == (None, None, SHAPE)
    assert sizes(got.student) == sizes(build_network(classifier()))
    alone = networks_of(write(dict(type='SingleTeacherDistill', student=classifier()), 'alone.py'))
    assert (alone.teacher, alone.teacher_constructor) == (None, None) and alone.student is not None


def test_a_network_alone(write):
    for path in (
        write(classifier(), 'a.py', default_scope='mmrecast'),
        'torchvision:resnet18',
        'resnet18_8xb16_cifar10',
    ):
        got = networks_of(path, (3, 64, 64))
        assert (got.student, got.plan, got.input_shape) == (None, None, (3, 64, 64))
        assert not got.teacher.training
    assert networks_of('torchvision:resnet18').input_shape == (3, 224, 224)
    assert networks_of('torchvision:resnet18').name == 'resnet18'


def test_an_input_shape_of_the_users_own(write):
    got = networks_of(write(recasting()), [1, 12, 16])
    assert got.input_shape == got.plan.input_shape == (1, 12, 16)
    assert got.plan.entries[0].in_shape == (4, 12, 16)


@pytest.fixture
def student_file(tmp_path):
    def write_file(plan=True, constructor=True, name='student.pth'):
        network = build_network(classifier())
        plan = make_plan(network, RECIPE, SHAPE) if plan else None
        trained = student_of(plan) if plan else network
        folder = tmp_path / 'my_run'
        folder.mkdir(exist_ok=True)
        save_student(str(folder / name), trained, Origin(classifier() if constructor else None, plan))
        return folder / name, trained

    return write_file


def student_of(plan):
    return replay(build_network(classifier()), plan).eval()


def test_a_student_file(student_file):
    path, trained = student_file()
    got = networks_of(path)
    assert (got.name, got.input_shape) == ('my_run', SHAPE)
    assert sizes(got.teacher) == sizes(build_network(classifier()))
    x = torch.rand(2, *SHAPE)
    assert torch.equal(got.student(x), trained(x))
    assert got.plan == got.student_plan and got.plan.input_shape == SHAPE
    assert networks_of(path, (1, 16, 16)).input_shape == (1, 16, 16)


def test_a_student_file_without_a_plan(student_file):
    path, trained = student_file(plan=False, name='best.pth')
    got = networks_of(str(path), SHAPE)
    assert (got.name, got.teacher, got.plan) == ('best', None, None)
    assert got.student_constructor['backbone']['depth'] == 8 and sizes(got.student) == sizes(trained)


def test_mistakes(write, student_file, tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no config file no/such.py'):
        networks_of('no/such.py')
    with pytest.raises(FileNotFoundError, match='no checkpoint at .*studnt.pth .nearest: student.pth'):
        networks_of(student_file()[0].parent / 'studnt.pth')
    with pytest.raises(ValueError, match='holds no constructor'):
        networks_of(student_file(constructor=False)[0])
    with pytest.raises(ValueError, match=r"unknown library 'torchvison' \(nearest: torchvision"):
        networks_of('torchvison:resnet18')
    with pytest.raises(ValueError, match=r"torchvision has no classifier 'resnet5' \(nearest: resnet"):
        networks_of('torchvision:resnet5')
    with pytest.raises(ValueError, match="mmpretrain has no model 'resnet18_8xb16_cifar1'"):
        networks_of('resnet18_8xb16_cifar1')
    with pytest.raises(ValueError, match=r'three numbers \(C, H, W\) of at least 1, got \(3, 0, 32\)'):
        networks_of('torchvision:resnet18', (3, 0, 32))
    with pytest.raises(ValueError, match=r'three numbers \(C, H, W\) of at least 1, got \(32, 32\)'):
        networks_of('torchvision:resnet18', (32, 32))
    with pytest.raises(ValueError, match='empty.py has neither a model nor a teacher'):
        networks_of(write({}, 'empty.py'))
    with pytest.raises(ValueError, match="pattern 'backbone.layer9.*' matches nothing"):
        networks_of(write(recasting(source='backbone.layer9.*')))
    with pytest.raises(ValueError, match='has a recipe but no network that it applies to'):
        networks_of(write(dict(type='RecastStudent', recipe=RECIPE)))
    with pytest.raises(ValueError, match=r'does not take an input of \(3, 8, 8\)'):
        networks_of(write(recasting()), (3, 8, 8))
    with pytest.raises(ValueError, match="--cfg-options needs a config file, not the name 'torchvision:resnet18'"):
        network_configs('torchvision:resnet18', {'a': 1})


def test_configs_take_options(write):
    path = write(recasting())
    got = network_configs(path, {'model.teacher.backbone.depth': 14})
    assert (got.name, got.teacher['backbone']['depth'], got.source is got.teacher) == ('run', 14, True)
    assert (got.recipe[0]['target'], got.student) == ('ConvBlock', None)


# ---- narrowed networks ----------------------------------------------------------------------------------------------

FULL = classifier(widths=(4, 8, 16), shortcut='B')
HALF = classifier(widths=(4, 4, 8), shortcut='B')  # what alpha=2 above 4 channels leaves of it
IMAGES = dict(type='BatchPreprocessor', input_shape=SHAPE)


def narrow_student(**changes):
    return dict(type='NarrowStudent', source=FULL, alpha=2, above=4, input_shape=SHAPE) | changes


def shapes(network):
    return {name: value.shape for name, value in network.state_dict().items()}


def test_an_adjoined_network(write):
    model = dict(type='AdjoinedNetwork', network=FULL, checkpoint=ABSENT, alpha=2, above=4, kernel_mask=0.5)
    got = networks_of(write(model, data_preprocessor=IMAGES))
    assert (got.name, got.input_shape, got.plan, got.student_plan) == ('run', SHAPE, None, None)
    assert shapes(got.teacher) == shapes(build_network(FULL)) and shapes(got.student) == shapes(build_network(HALF))
    assert got.same_blocks and got.teacher_constructor == got.student_constructor
    assert got.student_widths.layers['head.fc'].inputs == ((0, 8),)
    assert not got.student.training and got.student.head.fc.weight.data_ptr() != got.teacher.head.fc.weight.data_ptr()


def test_every_argument_of_the_narrowing_counts(write):
    model = dict(type='mmrecast.AdjoinedNetwork', network=FULL, data_preprocessor=IMAGES)
    some = write(model | dict(alpha=4, above=0, rule='basic', exclude=['backbone.layer1', 'backbone.layer3']))
    expected = classifier(widths=(4, 2, 16), shortcut='B')
    assert shapes(networks_of(some).student) == shapes(build_network(expected))
    by_name = write(model | dict(alpha={'backbone.layer3': 4, 'backbone.layer2': 2}))
    expected = classifier(widths=(4, 4, 4), shortcut='B')
    assert shapes(networks_of(by_name).student) == shapes(build_network(expected))


def test_before_a_search_there_is_the_full_network_alone(write):
    model = dict(type='DifferentiableAdjoinedNetwork', network=FULL, above=4, data_preprocessor=IMAGES)
    path = write(model)
    got = networks_of(path)
    assert (got.student, got.student_widths, got.same_blocks) == (None, None, False)
    assert shapes(got.teacher) == shapes(build_network(FULL))
    default = inspect.signature(DifferentiableAdjoinedNetwork).parameters['divisors'].default
    assert network_configs(path).divisors == default
    assert network_configs(write(model | dict(divisors=[1, 4]))).divisors == [1, 4]


def test_a_narrow_student_of_any_distiller(write):
    """The source stands for a missing teacher; a teacher of another form is not what the student was made of."""
    alone = networks_of(write(dict(type='SingleTeacherDistill', student=narrow_student())))
    itself = networks_of(write(narrow_student()))
    taught = networks_of(write(dict(type='SingleTeacherDistill', student=narrow_student(), teacher=classifier(14))))
    for got in (alone, itself, taught):
        assert got.input_shape == SHAPE and shapes(got.student) == shapes(build_network(HALF))
        assert got.student_widths == alone.student_widths
    assert shapes(alone.teacher) == shapes(itself.teacher) == shapes(build_network(FULL))
    assert (alone.same_blocks, taught.same_blocks) == (True, False)
    assert taught.teacher_constructor['backbone']['depth'] == 14 and taught.plan is None


def test_student_files_of_narrowed_networks(tmp_path):
    network = build_network(FULL)
    widths = narrow_by(network, SHAPE, alpha=2, above=4)
    (tmp_path / 'my_run' / 'full').mkdir(parents=True)
    save_student(str(tmp_path / 'my_run' / 'student.pth'), network, Origin(FULL, None, widths))
    got = networks_of(tmp_path / 'my_run' / 'student.pth')
    assert (got.name, got.input_shape, got.plan, got.student_widths) == ('my_run', SHAPE, None, widths)
    assert shapes(got.teacher) == shapes(build_network(FULL)) and got.same_blocks
    x = torch.rand(2, *SHAPE)
    assert torch.equal(got.student(x), network.eval()(x))

    further = str(tmp_path / 'my_run' / 'full' / 'student.pth')
    save_student(further, build_network(FULL), Origin(FULL), dict(input_shape=list(SHAPE)))
    got = networks_of(further)
    assert (got.name, got.teacher, got.input_shape) == ('my_run/full', None, SHAPE)
    assert networks_of(further, (1, 16, 16)).input_shape == (1, 16, 16)


def test_a_recast_and_narrowed_student_file(tmp_path):
    network = build_network(FULL)
    plan = make_plan(network, RECIPE, SHAPE)
    replay(network, plan)
    widths = narrow_by(network, SHAPE, alpha=2, above=4)
    save_student(str(tmp_path / 'both.pth'), network, Origin(FULL, plan, widths))
    got = networks_of(tmp_path / 'both.pth')
    assert (got.plan, got.student_plan, got.student_widths) == (plan, plan, widths)
    assert got.student.backbone.layer3[0].conv.out_channels == 8 and shapes(got.teacher) == shapes(build_network(FULL))


def test_mistakes_of_narrowing(write):
    with pytest.raises(ValueError, match='run.py: AdjoinedNetwork needs network=…, the network that it narrows'):
        networks_of(write(dict(type='AdjoinedNetwork', data_preprocessor=IMAGES)))
    with pytest.raises(ValueError, match='alpha=3 does not divide the 8 channels'):
        networks_of(write(dict(type='AdjoinedNetwork', network=FULL, alpha=3, above=4, data_preprocessor=IMAGES)))
    with pytest.raises(ValueError, match='no layer to adjoin'):
        networks_of(write(narrow_student(above=16)))
    with pytest.raises(FileNotFoundError, match='no checkpoint at no/such/student.pth'):
        networks_of(write(dict(type='AdjoinedNetwork', network='no/such/student.pth')))
