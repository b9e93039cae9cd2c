import pytest

from mmrecast.analysis.latency import Latency
from mmrecast.analysis.results import student_key
from mmrecast.analysis.rows import Measures, batch_sizes, table_rows


def labels(results):
    return [row.label for row in table_rows(results) if not row.is_teacher]


def plan(target, paths=('a', 'b'), **fields):
    """Return a plan that replaces blocks of eight channels."""
    entry = dict(action='recast', target=dict(type=target), in_channels=8, out_channels=8, out_shape=[8, 4, 4])
    entries = [dict(path=path, **(entry | fields)) for path in paths]
    kept = dict(path='z', action='keep', target=None, in_channels=8, out_channels=8, out_shape=[8, 4, 4])
    return dict(input_shape=[3, 8, 8], entries=[*entries, kept])


def test_seeds_are_averaged(make_result, measures):
    results = [make_result(seed=seed, top1=top1) for seed, top1 in ((0, 88.0), (1, 87.0), (2, 89.0))]
    results.append(make_result('backprop', teacher=None, top1=80.0, seconds=30.0))
    teacher, recasting, backprop = table_rows(results, measures)
    assert teacher.is_teacher and (teacher.label, teacher.error.mean, teacher.error.sd) == ('teacher', 10.0, None)
    assert (recasting.runs, recasting.error.mean, recasting.error.sd) == (3, 12.0, 1.0)
    assert (recasting.gap.mean, recasting.gap.sd) == (2.0, 1.0)
    assert backprop.gap.mean == 10.0  # the teacher of the others
    assert (backprop.seconds.mean, backprop.images.mean) == (30.0, 3840)
    assert (teacher.speed_ups, recasting.speed_ups) == ({2: 1.0}, {2: 1.9})
    assert [r['seed'] for r in recasting.results] == [0, 1, 2]


def test_own_teacher_counts_for_every_seed(make_result):
    results = [make_result(seed=s, top1=88.0, teacher=dict(top1=t)) for s, t in ((0, 90.0), (1, 92.0))]
    results.append(make_result('backprop', seed=1, top1=80.0, teacher=None))
    results.append(make_result('kd', seed=5, top1=80.0, teacher=None))
    teacher, recasting, backprop, kd = table_rows(results)
    assert (teacher.runs, teacher.error.mean) == (2, 9.0)
    assert recasting.gap.mean == 3.0
    assert backprop.gap.mean == 12.0
    assert kd.gap is None


def test_without_a_teacher_there_is_no_line_for_one(make_result):
    (row,) = table_rows([make_result('backprop', teacher=None)])
    assert (row.label, row.gap) == ('backprop', None)


def test_speed_up_is_the_teachers_time_over_the_students(make_result):
    """The ratios of a measurement are to its first network, whichever that was."""
    other = Latency(20.0, 19.0, 21.0, ratio=0.5, batch_size=8)
    measures = dict(
        teacher=Measures(latencies={1: Latency(3.0, 2.0, 4.0, ratio=1.0), 8: other}),
        **{'': Measures(latencies={1: Latency(1.0, 1.0, 1.0, ratio=3.1), 8: Latency(5.0, 4.0, 6.0, 2.0, 8)})},
    )
    rows = table_rows([make_result()], measures)
    assert rows[1].speed_ups == {1: 3.1, 8: 4.0} and batch_sizes(rows) == [1, 8]
    del measures['teacher']
    (row,) = table_rows([make_result(teacher=None)], measures)
    assert row.speed_ups == {} and row.latencies[1].median_ms == 1.0


def test_different_budgets_and_configs_are_not_averaged(make_result):
    results = [
        make_result(images=100),
        make_result(seed=1, images=200),
        make_result('kd', config='a/kd_one.py'),
        make_result('kd', config='a/kd_two.py'),
        make_result('at'),
    ]
    assert labels(results) == ['recasting (100 images)', 'recasting (200 images)', 'kd (kd_one)', 'kd (kd_two)', 'at']


def test_lines_of_one_name_stay_apart(make_result):
    results = [make_result('kd', config='a/kd.py'), make_result('kd', config='b/kd.py'), make_result('teacher')]
    assert labels(results) == ['kd (kd)', 'kd (kd, no. 2)', 'teacher (no. 3)']
    marked = table_rows(results)
    assert [row.is_teacher for row in marked] == [True, False, False, False]


def test_several_students_of_one_teacher(make_result):
    results = [
        make_result(plan=plan('ConvBlock')),
        make_result('kd', plan=plan('ConvBlock')),
        make_result(plan=plan('BasicBlock')),
        make_result(seed=1, plan=plan('BasicBlock')),
        make_result(plan=plan('BasicBlock', out_channels=4)),
        make_result(plan=plan('ConvBlock', paths='a')),
    ]
    assert labels(results) == [
        'recasting (2 × ConvBlock)', 'kd (2 × ConvBlock)', 'recasting (2 × BasicBlock)',
        'recasting (2 × BasicBlock, 0.5x the width)', 'recasting (1 × ConvBlock)',
    ]  # fmt: skip
    rows = table_rows(results, {student_key(results[2]): Measures(latencies={1: Latency(7.0, 7.0, 7.0, 1.0)})})
    measured = [row.label for row in rows if row.latencies]
    assert measured == ['recasting (2 × BasicBlock)'] and rows[3].runs == 2


def test_one_student_needs_no_name(make_result):
    results = [make_result(plan=plan('ConvBlock')), make_result('kd', plan=plan('ConvBlock'))]
    assert labels(results) == ['recasting', 'kd']


@pytest.mark.parametrize('known', [True, False])
def test_the_teachers_own_training_is_the_teachers_line(make_result, known):
    """The source of the recast students tells which network the teacher is; else its accuracy and form do."""
    source, other = dict(type='Net', depth=20), dict(type='Net', depth=8)
    recast = dict(plan=plan('ConvBlock'), constructor=source) if known else dict(constructor=other)
    results = [
        make_result('backprop', top1=90.02, teacher=None, images=9, seconds=7.0, constructor=source, config='t/t.py'),
        make_result('kd', **recast),
        make_result('backprop', top1=90.0, teacher=None, images=5, **recast),
    ]
    teacher, kd, backprop = table_rows(results)
    assert (teacher.images.mean, teacher.seconds.mean, teacher.error.mean) == (9, 7.0, 10.0)
    assert (kd.label, backprop.label, backprop.images.mean) == ('kd', 'backprop', 5)
    worse = table_rows([results[0] | dict(top1=80.0), *results[1:]])
    assert worse[0].images is None and len(worse) == 4


def test_a_methods_further_network_has_one_bracket(make_result):
    results = [make_result('adjoined', constructor=dict(type='A')),
               make_result('adjoined (full)', constructor=dict(type='B'))]  # fmt: skip
    assert labels(results) == ['adjoined (A)', 'adjoined (full, B)']
    assert labels(results[1:]) == ['adjoined (full)']
