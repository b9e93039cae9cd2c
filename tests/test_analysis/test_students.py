import shutil

import finished
import pytest
import torch
from tiny import SHAPE, classifier

from mmrecast.analysis.results import read_results, student_key
from mmrecast.analysis.students import (
    load_networks,
    network_name,
    student_names,
    teacher_constructors,
    teachers_own,
    with_constructors,
)
from mmrecast.models import build_network
from mmrecast.utils.checkpoint import load_file


def read(*folders):
    return with_constructors(read_results(folders))


def test_constructors_come_from_the_student_files(leave):
    recast, none, gone = read(
        leave('recast'), leave('none', method='kd', constructor=False), leave('gone', method='at', student=False)
    )
    assert (recast['constructor'], recast['absent']) == (finished.TEACHER, '')
    assert none['constructor'] is gone['constructor'] is None
    assert none['absent'].endswith('none/student.pth holds no constructor, so that the network cannot be built from it')
    assert 'no checkpoint at' in gone['absent'] and 'gone/student.pth' in gone['absent']


def test_every_distinct_student_is_built_once(leave):
    """Two methods' runs share the student of one plan, from whichever file has it."""
    results = read(
        leave('a', student=False), leave('b', method='kd'), leave('c', finished.BASIC),
        leave('d', None, method='kd', teacher=None),
    )  # fmt: skip
    networks = load_networks(results, SHAPE)
    conv, basic, plain = (student_key(results[i]) for i in (0, 2, 3))
    assert list(networks.students) == [conv, basic, plain] and not networks.absent
    assert type(networks.students[conv].backbone.layer1[0]).__name__ == 'ConvBlock'
    assert type(networks.students[basic].backbone.layer1[0]).__name__ == 'BasicBlock'
    assert set(networks.sources) == {conv, basic}
    original = type(build_network(finished.TEACHER).backbone.layer1[0])
    assert type(networks.sources[conv].backbone.layer1[0]) is original
    assert type(networks.teacher.backbone.layer1[0]) is original and not networks.teacher.training
    weights = load_file(results[1]['path'].replace('result.json', 'student.pth'))['weights']
    loaded = networks.students[conv].state_dict()
    assert all(torch.equal(weights[name], value) for name, value in loaded.items())


def test_an_untrained_teacher_has_statistics(leave):
    """Otherwise its activations could die out, and numbers below the normal ones are slow."""
    network = load_networks(read(leave('a')), SHAPE).teacher
    assert not torch.equal(network.backbone.bn1.running_mean, torch.zeros(4))


def test_the_teachers_own_run_gives_its_weights(leave):
    results = read(leave('students'), leave('teacher', None, method='backprop', top1=90.0, teacher=None))
    assert teachers_own(results) == [results[1]]
    networks = load_networks(results, SHAPE)
    weights = load_file(results[1]['path'].replace('result.json', 'student.pth'))['weights']
    assert torch.equal(networks.teacher.head.fc.weight, weights['head.fc.weight'])
    assert list(networks.students) == [student_key(results[0])]


@pytest.mark.parametrize(
    'fields', [dict(top1=89.0), dict(top1=None), dict(teacher=dict(top1=90.0)), dict(source=classifier(depth=8))]
)
def test_what_is_not_the_teachers_own_run(leave, fields):
    results = read(leave('students'), leave('other', None, **(dict(method='b', top1=90.0, teacher=None) | fields)))
    assert teachers_own(results) == []


def test_a_recorded_teacher_counts_before_the_source_of_a_student(leave):
    """The source of a student that is trained by another network is not the teacher."""
    small, large = classifier(depth=8), classifier(depth=20)
    recipe = [dict(source='backbone.layer*.*', target='ConvBlock')]
    kd = leave('kd', recipe, source=small, method='kd', teacher=dict(top1=90.0, constructor=large))
    results = read(kd, leave('backprop', recipe, source=small, method='backprop', teacher=None))
    assert [network_name(c) for c, _ in teacher_constructors(results)] == ['ResNet-20']
    networks = load_networks(results, SHAPE)
    assert (
        len(networks.teacher.backbone.layer1) == 3
        and len(networks.sources[student_key(results[0])].backbone.layer1) == 1
    )


def test_absent_networks_say_why(leave):
    folder = leave('a')
    (folder / 'student.pth').write_bytes(b'junk')
    results = read(folder, leave('b', finished.BASIC, constructor=False))
    networks = load_networks(results, SHAPE)
    assert networks.teacher is None and not networks.students
    assert 'a/student.pth is not a readable checkpoint' in networks.absent[student_key(results[0])]
    assert 'holds no constructor' in networks.absent[student_key(results[1])]
    assert networks.absent['teacher'] == 'no student.pth here tells what network it is; its own work directory would'


def test_other_teachers_are_refused(leave):
    message = r'different teachers do not belong .*a/result.json has ResNet-14, .*b/result.json has ResNet-20'
    with pytest.raises(ValueError, match=message):
        read(leave('a'), leave('b', source=classifier(depth=20), method='kd'))


def test_one_teacher_may_be_written_in_two_ways(leave):
    explicit = classifier(depth=14, shortcut='A')
    assert explicit != finished.TEACHER
    assert len(read(leave('a'), leave('b', source=explicit, method='kd'))) == 2


def test_a_teacher_of_an_unknown_class_is_not_compared(leave, tmp_path):
    folder = leave('b', method='kd')
    content = load_file(folder / 'student.pth')
    content['constructor'] = dict(type='NetOfAnotherFile')
    torch.save(content, folder / 'student.pth')
    results = read(leave('a', finished.BASIC), folder)
    networks = load_networks(results, SHAPE)
    assert "'NetOfAnotherFile' is not registered" in networks.absent[student_key(results[1])]
    shutil.rmtree(tmp_path / 'a')
    assert "'NetOfAnotherFile' is not registered" in load_networks(read(folder), SHAPE).absent['teacher']


@pytest.mark.parametrize(
    ('constructor', 'name'),
    [
        (classifier(depth=56), 'ResNet-56'),
        (
            dict(type='ImageClassifier', backbone=dict(type='mmrecast.WideResNet', depth=28, widen_factor=10)),
            'WideResNet-28-10',
        ),
        (dict(type='ImageClassifier', backbone=dict(type='DenseNet', arch='121')), 'DenseNet-121'),
        (dict(type='TorchvisionClassifier', name='resnet50'), 'resnet50'),
        (dict(type='TimmClassifier', model_name='resnet26'), 'resnet26'),
        (dict(type='mmrecast.RecastNetwork', source=classifier(depth=14), plan={}), 'recast ResNet-14'),
        (dict(type='MyNet'), 'MyNet'),
    ],
)
def test_names_of_networks(constructor, name):
    assert network_name(constructor) == name


def test_names_of_students(leave):
    both = [dict(source='backbone.layer1.*', target='BasicBlock'), dict(source='backbone.layer2.*', target='ConvBlock')]
    recipes = dict(conv=finished.CONV, half=finished.HALF, both=both, one=finished.HALF[:1], plain=None)
    results = read(*(leave(name, recipe, method=name) for name, recipe in recipes.items()))
    names = student_names(results)
    assert list(names.values()) == ['6 × ConvBlock', '3 × ConvBlock', '2 × BasicBlock + 2 × ConvBlock', 'ResNet-14']


def test_students_of_one_name_are_numbered(make_result):
    def entry(path, out_channels):
        return dict(path=path, action='recast', target=dict(type='C'), out_shape=[8, 4, 4], out_channels=out_channels)

    widths = ((8, 8), (4, 4), (2, 6), (6, 2), (1, 4))
    results = [make_result(plan=dict(entries=[entry('a', a), entry('b', b)])) for a, b in widths]
    assert list(student_names(results).values()) == [
        '2 × C', '2 × C, 0.5x the width', '2 × C, 0.5x the width no. 2', '2 × C, 0.5x the width no. 3',
        '2 × C, 0.312x the width',
    ]  # fmt: skip
    networks = [make_result(constructor=dict(type='Net', dropout=p)) for p in (0.1, 0.2)]
    assert list(student_names(networks).values()) == ['Net', 'Net no. 2']
