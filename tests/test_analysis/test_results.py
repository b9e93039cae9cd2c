import json

import pytest

from mmrecast.analysis.results import (
    COLUMNS,
    check_comparable,
    method_labels,
    read_results,
    table_markdown,
    table_rows,
    table_terminal,
)


def test_seeds_are_averaged(save_result, measures):
    paths = [save_result(f'r{seed}', seed=seed, top1=top1) for seed, top1 in ((0, 88.0), (1, 87.0), (2, 89.0))]
    paths.append(save_result('bp', method='backprop', teacher=None, top1=80.0, seconds=30.0) / 'result.json')
    teacher, recasting, backprop = table_rows(read_results(paths), *measures)
    assert (teacher.label, teacher.error.mean, teacher.error.sd, teacher.speed_up) == (
        'teacher',
        10.0,
        None,
        1.0,
    )
    assert (recasting.runs, recasting.error.mean, recasting.error.sd) == (3, 12.0, 1.0)
    assert (recasting.gap.mean, recasting.gap.sd) == (2.0, 1.0)
    assert recasting.speed_up == 1.9
    assert backprop.gap.mean == 10.0  # the teacher of the others
    assert recasting.cells() == [
        'recasting (3 seeds)', '12.00 ± 1.00', '+2.00 ± 1.00', '400.0 k', '60.00 M', '250.0 k', '2.50',
        '1.90x', '3,840', '40 ± 0',
    ]  # fmt: skip


def test_what_is_not_known_is_a_dash(make_result):
    (row,) = table_rows([make_result(teacher=None)])
    assert row.cells() == ['recasting', '12.00', '–', '–', '–', '–', '–', '–', '3,840', '40']
    (row,) = table_rows([make_result(teacher=None, top1=None)])
    assert row.cells()[1] == '–'


def test_own_teacher_counts_for_every_seed(make_result):
    results = [make_result(seed=s, top1=88.0, teacher=dict(top1=t)) for s, t in ((0, 90.0), (1, 92.0))]
    results.append(make_result('backprop', seed=1, top1=80.0, teacher=None))
    results.append(make_result('kd', seed=5, top1=80.0, teacher=None))
    teacher, recasting, backprop, kd = table_rows(results)
    assert (teacher.runs, teacher.error.mean) == (2, 9.0)
    assert recasting.gap.mean == 3.0
    assert backprop.gap.mean == 12.0
    assert kd.gap is None


def test_different_budgets_and_configs_are_not_averaged(make_result):
    results = [
        make_result(images=100),
        make_result(seed=1, images=200),
        make_result('kd', config='a/kd_one.py'),
        make_result('kd', config='a/kd_two.py'),
        make_result('at'),
    ]
    assert method_labels(results) == [
        'recasting (100 images)', 'recasting (200 images)', 'kd (kd_one)', 'kd (kd_two)', 'at',
    ]  # fmt: skip


def test_tables(make_result, measures):
    rows = table_rows([make_result(method='a|b')], *measures)
    lines = table_markdown(rows).split('\n')
    assert lines[0] == f'| {" | ".join(COLUMNS)} |'
    assert lines[2] == '| teacher | 10.00 | – | 800.0 k | 120.00 M | 500.0 k | 5.00 | 1.00x | – | – |'
    assert lines[3].startswith('| a\\|b | 12.00 | +2.00 |')
    text = table_terminal(rows)
    assert '\x1b' not in text
    assert '1.90x' in text


def test_markup_in_names_is_shown_as_it_is(make_result):
    assert '[red]kd' in table_terminal(table_rows([make_result('[red]kd')]))


def test_missing_files(tmp_path, save_result):
    with pytest.raises(FileNotFoundError, match=r'no result at .*nowhere; it is written when a run ends'):
        read_results([tmp_path / 'nowhere'])
    save_result('runs/one')
    with pytest.raises(FileNotFoundError, match=r'no result at .*result.json; did you mean .*runs/one\?'):
        read_results([tmp_path / 'runs'])
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


def test_fields_of_the_wrong_type(save_result):
    with pytest.raises(ValueError, match="seconds is '3', not a number"):
        read_results([save_result('a', seconds='3')])


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (dict(dataset='Digits'), "different data sets do not belong in one table: .*'CIFAR10', .*'Digits'"),
        (dict(classes=100), 'different numbers of classes do not belong in one table: .* 10, .* 100'),
        (dict(val_images=500), 'different numbers of test images'),
        (dict(teacher=dict(top1=91.0)), 'different teachers .*90.00 % top-1, .*91.00 %'),
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


def test_check_works_without_files(make_result):
    check_comparable([make_result(), make_result('kd')])
    with pytest.raises(ValueError, match=r'recasting \(seed 0\) has 10, kd \(seed 0\) has 2'):
        check_comparable([make_result(), make_result('kd', classes=2)])


def test_extra_fields_are_kept(save_result):
    folder = save_result('a', more=[1])
    (result,) = read_results([folder])
    assert result == {**json.loads((folder / 'result.json').read_text()), 'path': str(folder / 'result.json')}
