import os

import pytest
import torch
from mmengine.model import BaseModule
from torch import nn

from mmrecast.models import build_network, load_weights, revert_cifar_resnet

CLASSIFIER = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmrecast.CifarResNet', depth=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=64),
)


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def prefixed(state, prefix):
    return {prefix + k: v for k, v in state.items()}


def saved(content, folder):
    path = folder / 'weights.pth'
    torch.save(content, path)
    return path


def agree(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(
    'wrap',
    [
        lambda s: s,
        lambda s: dict(state_dict=s, meta=dict(epoch=3)),
        lambda s: prefixed(s, 'module.'),
        lambda s: dict(state_dict={**prefixed(s, 'student.'), 'teacher.0.weight': torch.zeros(1)}),
        lambda s: prefixed(prefixed(s, 'student.'), 'module.'),
    ],
    ids=['bare', 'mmengine', 'data_parallel', 'student', 'both'],
)
def test_every_wrapping_gives_the_same_weights(wrap, tmp_path):
    source, target = network(0), network(1)
    assert load_weights(target, saved(wrap(source.state_dict()), tmp_path)) is target
    assert agree(target.state_dict(), source.state_dict())


def test_he_style_names_fit_a_classifier(tmp_path):
    source, target = build_network(CLASSIFIER), build_network(CLASSIFIER)
    load_weights(target, saved(revert_cifar_resnet(source.state_dict()), tmp_path))
    assert agree(target.state_dict(), source.state_dict())


def test_a_prefix_picks_one_of_several_networks(tmp_path):
    student, teacher, target = network(0), network(1), network(2)
    both = {**prefixed(student.state_dict(), 'student.'), **prefixed(teacher.state_dict(), 'teacher.')}
    load_weights(target, saved(both, tmp_path), prefix='teacher')
    assert agree(target.state_dict(), teacher.state_dict())
    with pytest.raises(ValueError, match=r"has nothing below 'tutor' \(nearest: "):
        load_weights(target, tmp_path / 'weights.pth', prefix='tutor')


def test_a_checkpoint_without_batch_counters_fits(tmp_path):
    source = network()
    state = {k: v for k, v in source.state_dict().items() if not k.endswith('num_batches_tracked')}
    target = network(1)
    load_weights(target, saved(state, tmp_path))
    assert torch.equal(target[0].weight, source[0].weight)


def test_loaded_parts_are_not_initialised_again(tmp_path):
    cfg = CLASSIFIER | dict(init_cfg=dict(type='Constant', layer='Conv2d', val=0.5))
    source, target = build_network(CLASSIFIER), build_network(cfg)
    load_weights(target, saved(source.state_dict(), tmp_path))

    class Algorithm(BaseModule):
        def __init__(self):
            super().__init__()
            self.teacher = target

    Algorithm().init_weights()
    assert agree(target.state_dict(), source.state_dict())


def test_a_mismatch_is_one_line_with_counts_names_and_shapes(tmp_path):
    state = network().state_dict()
    state['0.weight'] = torch.zeros(4, 1, 3, 3)
    state['9.weight'] = state.pop('0.bias')
    target = network(1)
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(ValueError) as caught:
        load_weights(target, saved(state, tmp_path))
    assert str(caught.value) == (
        f'{tmp_path}/weights.pth does not fit Sequential: 1 missing: 0.bias (2,); '
        '1 unexpected: 9.weight (2,); 1 of other shape: 0.weight (4, 1, 3, 3), expected (2, 1, 3, 3)'
    )
    assert agree(target.state_dict(), before)


def test_only_the_first_three_of_many_are_listed(tmp_path):
    state = {**network().state_dict(), **{f'extra{i}': torch.zeros(1) for i in range(5)}}
    with pytest.raises(ValueError, match=r'5 unexpected: extra0 \(1,\), extra1 \(1,\), extra2 \(1,\), …$'):
        load_weights(network(), saved(state, tmp_path))


def test_a_teacher_of_another_number_of_classes_is_named_by_its_shapes(tmp_path):
    path = saved(build_network(CLASSIFIER).state_dict(), tmp_path)
    other = build_network(CLASSIFIER | dict(head=dict(type='LinearClsHead', num_classes=100, in_channels=64)))
    with pytest.raises(ValueError, match=r'head.fc.weight \(10, 64\), expected \(100, 64\)'):
        load_weights(other, path)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ([1, 2], 'holds no state_dict, but list'),
        ({}, 'holds an empty state_dict'),
        (dict(state_dict={}), 'holds an empty state_dict'),
        (dict(epoch=3), "entry 'epoch' is int, not a tensor"),
        (
            dict(plan={}, weights={}),
            'is a recast student with its plan: read it with mmrecast.apis.load_student',
        ),
        (
            dict(plan=None, widths=dict(layers={}), weights={'0.weight': torch.zeros(1)}),
            'is a narrowed student with its widths: read it with mmrecast.apis.load_student',
        ),
        (dict(plan=None, widths=None, weights={}), 'holds an empty state_dict'),
        (dict(plan=None, weights=[1]), 'holds no state_dict, but list'),
    ],
)
def test_a_file_without_weights_is_refused(content, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load_weights(network(), saved(content, tmp_path))


class Trap:
    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_missing_truncated_and_hostile_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='nothing.pth'):
        load_weights(network(), tmp_path / 'nothing.pth')
    path = saved(network().state_dict(), tmp_path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match='weights.pth is not a readable checkpoint'):
        load_weights(network(), path)
    trap = Trap()
    trap.path = tmp_path / 'sprung'
    with pytest.raises(ValueError, match='mkdir'):
        load_weights(network(), saved(dict(state_dict=trap), tmp_path))
    assert not trap.path.exists()
