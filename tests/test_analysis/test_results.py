import json

import pytest

from mmrecast.analysis.results import check_comparable, images_seen, line_key, read_results, student_key


def test_a_folder_of_work_directories_stands_for_all_of_them(tmp_path, save_result):
    for name, fields in dict(b=dict(seed=1), a=dict(seed=0), c=dict(method='kd')).items():
        save_result(f'runs/{name}', **fields)
    (tmp_path / 'runs' / 'notes').mkdir()
    read = read_results([tmp_path / 'runs'])
    assert [r['path'] for r in read] == [str(tmp_path / 'runs' / name / 'result.json') for name in 'abc']
    one = read_results([tmp_path / 'runs' / 'c' / 'result.json', tmp_path / 'runs' / 'a'])
    assert [r['method'] for r in one] == ['kd', 'recasting']


def test_images_of_starts_are_seen(make_result):
    stages = [dict(start_images=1024), dict(start_images=None), dict()]
    assert images_seen(make_result(images=100, stages=stages)) == 1124


def test_a_config_is_the_same_however_its_path_is_written(make_result):
    paths = ('configs/distill/kd/a.py', '/home/me/mmrecast/configs/distill/kd/a.py', 'kd/a.py')
    assert len({line_key(make_result(config=path)) for path in paths}) == 1
    assert line_key(make_result(config='at/a.py')) != line_key(make_result(config='kd/a.py'))
    assert line_key(make_result(config=None))[2] == ''


def test_students_are_told_apart_by_their_plans(make_result):
    def plan(**changes):
        entry = dict(path='a', action='recast', target=dict(type='ConvBlock'), in_channels=4, out_channels=4)
        return dict(input_shape=[3, 8, 8], entries=[entry | dict(glue=[]) | changes])

    keys = [student_key(make_result(plan=p)) for p in (plan(), plan(glue=['pool']), plan(out_channels=2), None)]
    assert keys[0] == keys[1] and keys[0] != keys[2] and keys[3] == ''
    built = [student_key(make_result(constructor=c)) for c in (dict(a=1, b=2), dict(b=2, a=1), dict(a=2), None)]
    assert built[0] == built[1] and built[0] != built[2] and built[3] == ''


def test_missing_files(tmp_path, save_result):
    with pytest.raises(FileNotFoundError, match=r'no result at .*nowhere; it is written when a run ends'):
        read_results([tmp_path / 'nowhere'])
    save_result('runs/seed0/one')
    with pytest.raises(
        FileNotFoundError, match=r'no result at .*result.json or in a folder of .*; did you mean .*seed0\?'
    ):
        read_results([tmp_path / 'runs'])
    with pytest.raises(FileNotFoundError, match='it is written when a run ends'):
        (tmp_path / 'empty').mkdir()
        read_results([tmp_path / 'empty'])
    with pytest.raises(ValueError, match='no results to compare'):
        read_results([])


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{"method": ', r'result.json is not JSON: Expecting value'),
        ('\x00', r'result.json is not JSON'),
        ('[]', r'result.json is not the result of a run: it holds no object'),
        ('{"method": "kd"}', r'it lacks seed, dataset, classes, stages, images, seconds, top1, val_images$'),
    ],
)
def test_broken_files(tmp_path, text, message):
    (tmp_path / 'result.json').write_text(text)
    with pytest.raises(ValueError, match=message):
        read_results([tmp_path])


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (dict(seconds='3'), "seconds is '3', not a number"),
        (dict(config=['x']), 'config is not what a run writes'),
        (dict(method=3), 'method is not what a run writes'),
        (dict(stages=[dict(start_images='x')]), 'start_images is not what a run writes'),
        (dict(input_shape=[1, 10**9, 10**9]), 'an input shape has at most .*'),
        (dict(top1=float('nan')), 'top1 is nan, not a number'),
        (dict(images=None), 'images is None, not a number'),
        (dict(images=True), 'images is True, not a number'),
        (dict(teacher=dict(top1='good')), "the teacher's top1 is 'good', not a number"),
        (dict(teacher=[90.0]), 'teacher is not what a run writes'),
        (dict(stages=[1]), 'stages is not what a run writes'),
        (dict(plan=dict(blocks=[])), 'plan is not what a run writes'),
        (dict(widths=[1]), 'widths is not what a run writes'),
        (dict(widths=dict(layers=[1])), 'widths is not what a run writes'),
    ],
)
def test_fields_of_the_wrong_type(save_result, fields, message):
    with pytest.raises(ValueError, match=f'a/result.json is not the result of a run: {message}$'):
        read_results([save_result('a', **fields)])


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (dict(dataset='Digits'), "different data sets do not belong in one table: .*'CIFAR10', .*'Digits'"),
        (dict(classes=100), 'different numbers of classes do not belong in one table: .* 10, .* 100'),
        (dict(val_images=500), 'different numbers of test images'),
        (dict(input_shape=[3, 64, 64]), r'different input shapes .*\[3, 32, 32\].*\[3, 64, 64\]'),
        (
            dict(data_root='/jpeg'),
            "from different folders .* unless --same-data says that they do: .*'/data', .*'/jpeg'",
        ),
        (dict(teacher=dict(top1=91.0)), 'different teachers .*90.00 % top-1, .*91.00 %'),
        (dict(complete=False), r'b/result.json is of a run that has not ended \(3 stages are done\): finish it'),
        (
            dict(method='recasting'),
            "seed 0 of 'recasting' is there twice: .*a/result.json and .*b/result.json",
        ),
    ],
)
def test_results_that_cannot_be_compared(save_result, fields, message):
    first, second = save_result('a'), save_result('b', **{'method': 'kd', **fields})
    with pytest.raises(ValueError, match=message) as caught:
        read_results([first, second])
    assert '\n' not in str(caught.value)


def test_a_directory_given_twice(tmp_path, save_result):
    folder = save_result('runs/a')
    with pytest.raises(ValueError, match='a/result.json is given twice: name each work directory once'):
        read_results([tmp_path / 'runs', folder / '..' / 'a'])


def test_what_may_differ(tmp_path, make_result):
    check_comparable([make_result(), make_result('kd', data_root='', input_shape=None)])
    check_comparable([make_result(), make_result('kd', data_root='/jpeg')], same_data=True)
    (tmp_path / 'link').symlink_to(tmp_path)
    roots = (tmp_path, tmp_path / 'link', tmp_path / 'link' / '..' / tmp_path.name)
    check_comparable([make_result(f'kd{i}', data_root=str(root)) for i, root in enumerate(roots)])
    check_comparable([make_result(teacher=dict(top1=90.0)), make_result('kd', teacher=dict(top1=90.04))])
    check_comparable([make_result(), make_result(seed=1, teacher=dict(top1=80.0))])  # each seed its own teacher
    finished = make_result('kd')
    del finished['complete']  # results of before it was noted
    check_comparable([make_result(), finished])


def test_check_works_without_files(make_result):
    with pytest.raises(ValueError, match=r'recasting \(seed 0\) has 10, kd \(seed 0\) has 2'):
        check_comparable([make_result(), make_result('kd', classes=2)])


def test_extra_fields_are_kept(save_result):
    folder = save_result('a', more=[1])
    (result,) = read_results([folder])
    assert result == {**json.loads((folder / 'result.json').read_text()), 'path': str(folder / 'result.json')}


def test_students_are_told_apart_by_their_widths(make_result):
    def widths(*layers):
        return dict(input_shape=[1, 8, 8], layers={path: dict(inputs=[[0, 4]], outputs=[[0, n]]) for path, n in layers})

    plan = dict(entries=[dict(path='a', action='recast', target=None, in_channels=1, out_channels=1)])
    results = [
        make_result(constructor=dict(a=1)),
        make_result(constructor=dict(a=1), widths=widths(('conv', 2))),
        make_result(constructor=dict(a=1), widths=widths(('conv', 1))),
        make_result(constructor=dict(a=2), widths=widths(('conv', 1))),
        make_result(widths=widths(('conv', 1))),
        make_result(plan=plan),
        make_result(plan=plan, widths=widths(('conv', 1))),
    ]
    keys = [student_key(result) for result in results]
    assert len(set(keys)) == len(keys) and all(keys)
    again = make_result(widths=widths(('b', 1), ('conv', 2))), make_result(widths=widths(('conv', 2), ('b', 1)))
    assert student_key(again[0]) == student_key(again[1])
    assert student_key(make_result(constructor=dict(a=1), widths=widths())) == keys[0]  # a divisor of 1 narrows nothing
