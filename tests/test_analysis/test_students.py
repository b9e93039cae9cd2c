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
    'fields',
    [
        dict(top1=89.0), dict(top1=None), dict(teacher=dict(top1=90.0)), dict(source=classifier(depth=8)),
        dict(network='full'), dict(narrow=dict(alpha=2, above=0)),
    ],
)  # fmt: skip
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
        (dict(type='RecastNetwork', source=classifier(depth=14), plan=None, widths={}), 'narrowed ResNet-14'),
        (dict(type='RecastNetwork', source=classifier(depth=14), plan={}, widths={}), 'narrowed recast ResNet-14'),
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


# ---- narrowed students ----------------------------------------------------------------------------------------------

FULL = classifier(widths=(4, 8, 16), shortcut='B')  # filters by hand: 4, 4 + 4, 8 + 8 + 8, 16 + 16 + 16: 84


@pytest.fixture
def left(leave):
    """Return a function that fills a work directory of an adjoined run: of its small network, or the full one."""

    def fill(name, alpha=None, **fields):
        narrow = None if alpha is None else dict(alpha=alpha, above=4)
        method = fields.pop('method', 'adjoined' if narrow else 'adjoined (full)')
        fields = ({} if narrow else dict(network='full')) | dict(method=method, teacher=None) | fields
        return leave(name, fields.pop('recipe', None), source=FULL, narrow=narrow, **fields)

    return fill


def test_names_of_narrowed_students(left):
    """Of 84 filters α = 2 leaves 48 and α = 4 leaves 30; a search may halve 16, or 8 and 8, of them."""
    one, two = {'backbone.layer3.0.conv1': 2}, {'backbone.layer2.0.conv2': 2}
    results = read(*(left(str(i), alpha, method=str(i)) for i, alpha in enumerate((2, 4, one, two, None, 2))))
    names = student_names(results)
    assert list(names.values()) == [
        'ResNet-8, 0.571x the width', 'ResNet-8, 0.357x the width', 'ResNet-8, 0.905x the width',
        'ResNet-8, 0.905x the width no. 2', 'ResNet-8',
    ]  # fmt: skip
    assert len({student_key(r) for r in results}) == 5 and student_key(results[0]) == student_key(results[-1])
    networks = load_networks(results, SHAPE)
    fcs = [networks.students[key].head.fc.in_features for key in names]
    assert fcs == [8, 4, 16, 16, 16] and not networks.sources and networks.teacher.head.fc.in_features == 16


def test_names_of_recast_and_narrowed_students(leave):
    """Three blocks become convolutions of 4, 8 and 16, of which the last is halved: 24 of 32 filters with the stem."""
    recipe = [dict(source='backbone.layer*.*', target='ConvBlock')]
    folders = [
        leave('plain', recipe, source=FULL),
        leave('narrow', recipe, source=FULL, narrow=dict(alpha={'backbone.layer3': 2}), method='adjoined'),
    ]
    results = read(*folders)
    assert list(student_names(results).values()) == ['3 × ConvBlock', '3 × ConvBlock, 0.75x the width']
    networks = load_networks(results, SHAPE)
    assert [n.backbone.layer3[0].conv.out_channels for n in networks.students.values()] == [16, 8]
    assert len(networks.sources) == 2


def test_a_narrowed_student_that_nobody_can_build_has_a_name(left):
    (result,) = read(left('a', 2, constructor=False))
    assert list(student_names([result]).values()) == ['narrowed'] and result['width_share'] is None
    assert 'holds no constructor' in load_networks([result], SHAPE).absent[student_key(result)]


def test_what_a_narrowed_student_was_made_of_stands_for_the_teacher(left, leave):
    """Unless a run records its teacher, or a recast student tells its source."""
    adjoined, full = left('small', 2), left('full')
    assert [c['backbone']['widths'] for c, _ in teacher_constructors(read(adjoined, full))] == [(4, 8, 16)]
    recast = leave('recast', method='backprop', teacher=None)
    assert [network_name(c) for c, _ in teacher_constructors(read(adjoined, full, recast))] == ['ResNet-14']
    taught = leave('kd', method='kd', teacher=dict(top1=90.0, constructor=classifier(depth=20)))
    assert [network_name(c) for c, _ in teacher_constructors(read(adjoined, taught))] == ['ResNet-20']
