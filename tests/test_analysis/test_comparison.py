import finished
import pytest
import torch
from tiny import SHAPE, classifier

from mmrecast.analysis import comparison as module
from mmrecast.analysis.comparison import compare
from mmrecast.analysis.latency import Latency
from mmrecast.models import build_network

CONV_WEIGHTS = 9 * (1 * 4 + 2 * 4 * 4 + 4 * 6 + 6 * 6 + 6 * 8 + 8 * 8)  # stem, then two convolutions of each width
TEACHER_WEIGHTS = 9 * (1 * 4 + 4 * 4 * 4 + 4 * 6 + 3 * 6 * 6 + 6 * 8 + 3 * 8 * 8)  # option A has no projections


@pytest.fixture
def timed(monkeypatch):
    """Return what was asked of a ``compare_latency`` that takes no time: each network is as slow as it has weights."""
    asked = []

    def measure(networks, input_shape, **settings):
        asked.append((list(networks), tuple(input_shape), settings))
        ms = {name: float(sum(p.numel() for p in net.parameters())) for name, net in networks.items()}
        first = next(iter(ms.values()))
        return {name: Latency(v, v, v, first / v, settings['batch_size'], repeats=1) for name, v in ms.items()}

    monkeypatch.setattr(module, 'compare_latency', measure)
    return asked


def test_two_students_of_one_teacher(leave, timed):
    folders = [
        leave('conv'), leave('kd', method='kd', top1=80.0), leave('basic', finished.BASIC),
        leave('basic1', finished.BASIC, seed=1, top1=86.0),
    ]  # fmt: skip
    compared = compare(folders, {1: 5, 16: 3}, threads=1)
    teacher, conv, kd, basic = compared.rows
    assert [row.label for row in compared.rows[1:]] == [
        'recasting (6 × ConvBlock)', 'kd (6 × ConvBlock)', 'recasting (6 × BasicBlock)',
    ]  # fmt: skip
    assert (teacher.complexity.params, conv.complexity.params) == (TEACHER_WEIGHTS, CONV_WEIGHTS)
    assert kd.complexity == conv.complexity and kd.latencies == conv.latencies and basic.runs == 2
    sizes = [sum(p.numel() for p in build_network(finished.TEACHER).parameters())]
    sizes.append(sum(v.numel() for n, v in _weights(folders[0]).items() if 'running' not in n and 'num_' not in n))
    assert conv.speed_ups == {1: pytest.approx(sizes[0] / sizes[1]), 16: pytest.approx(sizes[0] / sizes[1])}
    names, shapes, settings = zip(*timed, strict=True)
    assert names[0] == names[1] == ['teacher', conv.key, basic.key] and set(shapes) == {SHAPE}
    assert [(s['batch_size'], s['repeats'], s['device'], s['threads']) for s in settings] == [
        (1, 5, 'cpu', 1), (16, 3, 'cpu', 1),
    ]  # fmt: skip
    assert list(compared.plans) == [conv.key, basic.key] and compared.teacher_name == 'ResNet-14'
    total = compared.plans[conv.key][-1]
    assert total['params'] == (TEACHER_WEIGHTS, CONV_WEIGHTS)
    assert compared.notes == ()


def _weights(folder):
    return torch.load(folder / 'student.pth', weights_only=True)['weights']


def test_latency_is_measured_for_real(leave):
    compared = compare([leave('a')], {2: 3}, threads=1)
    teacher, student = (row.latencies[2] for row in compared.rows)
    assert (student.batch_size, student.repeats, student.threads) == (2, 3, 1)
    assert 0 < student.p10_ms <= student.median_ms <= student.p90_ms and teacher.ratio == 1.0


def test_an_unsteady_latency_is_noted(leave, monkeypatch):
    spread = {1: 1.4, 64: 3.0}

    def measure(networks, input_shape, batch_size, **settings):
        return {name: Latency(2.0, 2.0, 2.0 * spread[batch_size], 1.0, batch_size) for name in networks}

    monkeypatch.setattr(module, 'compare_latency', measure)
    (note,) = compare([leave('a')], dict.fromkeys(spread, 3)).notes
    assert note.startswith('Latency at batch 64 is unsteady: its 90th percentile is up to 3.0 times its 10th.')


def test_no_rounds_no_latency(leave, timed):
    compared = compare([leave('a')], {})
    assert timed == [] and compared.rows[1].latencies == {} and compared.rows[1].complexity.params == CONV_WEIGHTS


def test_what_is_not_there_is_a_note(leave, timed):
    folders = [leave('a', student=False), leave('b', finished.BASIC), leave('c', None, method='kd', student=False)]
    compared = compare(folders, {1: 1})
    assert [bool(row.complexity) for row in compared.rows] == [True, False, True, False]
    assert timed[0][0] == ['teacher', compared.rows[2].key]
    assert [note.split(': ')[0] for note in compared.notes] == ['recasting (6 × ConvBlock)', 'kd']
    assert all('no checkpoint at' in note and 'student.pth' in note for note in compared.notes)
    (first, *_) = compared.plans[compared.rows[1].key]
    assert (first['source'], first['target'], first['params']) == ('basic 4×8×8', 'ConvBlock 4×8×8', None)


def test_without_any_network_there_is_still_a_table(leave, timed):
    compared = compare([leave('a', constructor=False)], {1: 1})
    assert timed == [] and compared.teacher_name == '' and compared.rows[1].gap.mean == 2.0
    assert compared.notes[-1].startswith('teacher: params, mults, acts and latency are not known: no student.pth here')
    blank = compare([leave('b', input_shape=None)], {1: 1})
    assert blank.notes == ('Nothing is measured: no result tells the shape of its images.',)


def test_mistakes_show_before_anything_is_read(tmp_path):
    nowhere = [tmp_path / 'nowhere']
    with pytest.raises(ValueError, match="device must be 'cpu', 'cuda' or 'cuda:N', got 'gpu'"):
        compare(nowhere, device='gpu')
    with pytest.raises(ValueError, match='threads must be at least 1, got 0'):
        compare(nowhere, threads=0)
    with pytest.raises(ValueError, match='batch_size must be at least 1, got 0'):
        compare(nowhere, {0: 3})
    with pytest.raises(ValueError, match='repeats must be at least 1, got 0'):
        compare(nowhere, {1: 0})
    with pytest.raises(FileNotFoundError, match='no result at'):
        compare(nowhere, {}, device='gpu')


def test_both_networks_of_an_adjoined_run(leave, timed):
    """WORK_DIR and WORK_DIR/full beside the small network alone: a line each, and what all are made of as the base."""
    full, narrow = classifier(widths=(4, 8, 16), shortcut='B'), dict(alpha=2, above=4)
    folders = [
        leave('run', None, source=full, narrow=narrow, method='adjoined', teacher=None, top1=80.0),
        leave('run/full', None, source=full, method='adjoined (full)', teacher=None, network='full', top1=85.0),
        leave('alone', None, source=full, narrow=narrow, method='backprop', teacher=None, top1=75.0),
        leave('dan', None, source=full, narrow=dict(alpha={'backbone.layer2': 4}), method='dan', teacher=None),
    ]
    compared = compare(folders, {1: 2}, threads=1)
    base, small, whole, alone, dan = compared.rows
    assert [row.label for row in compared.rows] == [
        'teacher', 'adjoined (ResNet-8, 0.571x the width)', 'adjoined (full, ResNet-8)',
        'backprop (ResNet-8, 0.571x the width)', 'dan (ResNet-8, 0.786x the width)',
    ]  # fmt: skip
    weights = [9 * (4 + 2 * 16 + 4 * a + a * a + a * b + b * b) + 4 * a + a * b for a, b in ((8, 16), (4, 8), (2, 16))]
    assert [row.complexity.params for row in (whole, small, dan)] == weights
    assert base.complexity == whole.complexity and alone.measures == small.measures
    assert [row.error and row.error.mean for row in compared.rows] == [None, 20, 15, 25, 12]
    assert small.speed_ups[1] == whole.latencies[1].median_ms / small.latencies[1].median_ms > 1
    assert not compared.plans and not compared.notes and compared.teacher_name == 'ResNet-8'


def test_a_folder_of_runs_stands_for_their_students(leave, timed, tmp_path):
    """The further network of a run is named by its own folder."""
    leave('runs/a', method='adjoined')
    leave('runs/a/full', None, method='adjoined (full)', network='full')
    assert [row.label for row in compare([tmp_path / 'runs'], {}).rows] == ['teacher', 'adjoined']
