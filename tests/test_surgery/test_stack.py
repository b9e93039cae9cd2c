"""Whole stages as sources: a ResNet's ``layer1`` becomes a shorter row of blocks, and the ResNet a shallower one."""

import copy

import pytest
import torch

from mmrecast.models import build_network
from mmrecast.surgery.apply import check_plan
from mmrecast.surgery.plan import Plan, make_plan
from mmrecast.surgery.student_file import Origin, load_student, save_student

NETWORKS = {  # name -> (backbone, depths of teacher and student, classifier's width, blocks of a stage, how many)
    'pad': (dict(type='CifarResNet'), (20, 14), 64, dict(type='BasicBlock', shortcut='pad'), 2),
    'projection': (dict(type='CifarResNet', shortcut='B'), (20, 8), 64, dict(type='BasicBlock'), 1),
    'stem': (
        dict(type='CifarResNet', shortcut='B', stem_width=4, widths=(8, 8, 12)),
        (14, 8),
        12,
        dict(type='BasicBlock'),
        1,
    ),
    'wide': (dict(type='WideResNet', widen_factor=1), (22, 16), 64, dict(type='PreActBasicBlock'), 2),
}


@pytest.fixture(params=list(NETWORKS))
def pair(request, toys):
    """Configs of a deep and a shallow network, and the recipe between them."""
    backbone, depths, channels, block, depth = NETWORKS[request.param]
    backbone = dict(backbone, type=f'mmrecast.{backbone["type"]}')
    configs = [toys.classifier(channels=channels, **backbone, depth=d) for d in depths]
    return *configs, [dict(source='backbone.layer*', target=dict(type='StackedBlocks', block=block, depth=depth))]


def shapes(network):
    return {name: value.shape for name, value in network.state_dict().items()}


def test_the_student_is_the_shallower_network(pair, tmp_path):
    deep, shallow, recipe = pair
    teacher, plain = build_network(deep), build_network(shallow).eval()
    plan = make_plan(teacher, recipe, (3, 16, 16))
    assert [entry.path for entry in plan.entries] == ['backbone.layer1', 'backbone.layer2', 'backbone.layer3']
    assert [(entry.source.kind, entry.target['stride']) for entry in plan.entries] == list(
        zip(['module'] * 3, [1, 2, 2], strict=True)
    )
    student = check_plan(copy.deepcopy(teacher), plan).eval()
    assert shapes(student) == shapes(plain)
    save_student(tmp_path / 'student.pth', student, Origin(deep, Plan.from_dict(plan.to_dict())))
    loaded, images = load_student(tmp_path / 'student.pth'), torch.randn(2, 3, 16, 16)
    plain.load_state_dict(loaded.state_dict())
    assert torch.equal(plain(images), student(images)) and torch.equal(loaded(images), student(images))


def test_blocks_of_a_stack_can_be_recast_again(pair):
    deep, _, recipe = pair
    teacher = build_network(deep)
    student = check_plan(copy.deepcopy(teacher), make_plan(teacher, recipe, (3, 16, 16)))
    plan = make_plan(student, [dict(source='backbone.layer3.*', target=dict(type='ConvBlock'))], (3, 16, 16))
    assert {entry.path.rpartition('.')[0] for entry in plan.entries} == {f'backbone.layer{i}' for i in (1, 2, 3)}
    assert check_plan(student, plan)(torch.zeros(1, 3, 16, 16)).shape == (1, 5)


def test_a_stage_before_another_keeps_its_width(toys):
    network = build_network(toys.cifar(14, shortcut='B'))
    recipe = [dict(source='backbone.layer*', target=dict(type='StackedBlocks', width_ratio=0.5))]
    plan = make_plan(network, recipe, (3, 16, 16))
    with pytest.raises(ValueError, match="'backbone.layer2' behind 'backbone.layer1': Sequential cannot be rebuilt"):
        check_plan(network, plan)


@pytest.mark.parametrize(
    ('block', 'message'), [(dict(type='os.system'), 'os.system'), (dict(type='BasicBlock', weights='x.pth'), 'weights')]
)
def test_a_file_names_registered_blocks_alone(block, message, pair, tmp_path):
    deep, _, recipe = pair
    network = build_network(deep)
    plan = make_plan(network, recipe, (3, 16, 16))
    save_student(tmp_path / 'student.pth', check_plan(network, plan), Origin(deep, plan))
    content = torch.load(tmp_path / 'student.pth', weights_only=True)
    content['plan']['entries'][0]['target']['block'] = block
    torch.save(content, tmp_path / 'changed.pth')
    with pytest.raises(ValueError, match=message):
        load_student(tmp_path / 'changed.pth')
