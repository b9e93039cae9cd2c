import csv
import io

import pytest

from mmrecast.analysis.comparison_tables import (
    cells,
    columns,
    line_data,
    run_data,
    table_csv,
    table_markdown,
    table_terminal,
)
from mmrecast.analysis.rows import table_rows


def test_cells_in_the_order_of_the_columns(make_result, measures):
    rows = table_rows([make_result(seed=s, top1=t) for s, t in ((0, 88.0), (1, 87.0), (2, 89.0))], measures)
    assert columns(rows) == [
        'method', 'error %', 'gap to teacher (points)', 'params', 'mults', 'acts', 'ms, batch 2', 'speed-up, batch 2',
        'images seen', 'training seconds',
    ]  # fmt: skip
    assert cells(rows[0], [2]) == [
        'teacher', '10.00', '–', '800.0 k', '120.00 M', '500.0 k', '10.0', '1.00x', '–', '–',
    ]  # fmt: skip
    assert cells(rows[1], [2]) == [
        'recasting (3 seeds)', '12.00 ± 1.00', '+2.00 ± 1.00', '400.0 k', '60.00 M', '250.0 k', '5.00', '1.90x',
        '3,840', '40 ± 0',
    ]  # fmt: skip
    assert cells(rows[1], [2, 64])[8:10] == ['–', '–']  # not measured at 64


def test_what_is_not_known_is_a_dash(make_result):
    (row,) = table_rows([make_result(teacher=None)])
    assert cells(row, []) == ['recasting', '12.00', '–', '–', '–', '–', '3,840', '40']
    (row,) = table_rows([make_result(teacher=None, top1=None)])
    assert cells(row, [])[1] == '–'


def test_markdown(make_result, measures):
    rows = table_rows([make_result(method='a|b')], measures)
    lines = table_markdown(rows).split('\n')
    assert lines[0] == f'| {" | ".join(columns(rows))} |'
    assert lines[1] == f'| ---{" | ---:" * 9} |'
    assert lines[2] == '| teacher | 10.00 | – | 800.0 k | 120.00 M | 500.0 k | 10.0 | 1.00x | – | – |'
    assert lines[3].startswith('| a\\|b | 12.00 | +2.00 |')


def test_a_narrow_terminal_leaves_out_what_matters_least(make_result, measures):
    rows = table_rows([make_result()], measures)
    text = table_terminal(rows, width=120)
    assert '\x1b' not in text and all(said in text for said in ('250.0 k', '60.00 M', '1.90x', '3,840'))
    narrow = table_terminal(rows, width=60)
    assert max(map(len, narrow.split('\n'))) <= 60
    assert 'acts' not in narrow and 'mults' not in narrow
    assert all(said in narrow for said in ('recasting', '12.00', '+2.00', '1.90x'))
    tight = table_terminal(rows, width=40)
    assert '12.00' in tight and '1.90x' in tight and 'seconds' not in tight


def test_markup_in_names_is_shown_as_it_is(make_result):
    assert '[red]kd' in table_terminal(table_rows([make_result('[red]kd')]))


def test_csv_holds_unrounded_numbers(make_result, measures):
    results = [make_result(seed=s, top1=88.0 + s / 3) for s in (0, 1)] + [make_result('kd, "old"', top1=None)]
    teacher, recasting, kd = csv.DictReader(io.StringIO(table_csv(table_rows(results, measures))))
    assert (teacher['line'], teacher['method'], teacher['params'], teacher['images_mean']) == (
        'teacher',
        'teacher',
        '800000',
        '',
    )
    assert float(recasting['error_mean']) == pytest.approx(12 - 1 / 6, abs=1e-12)
    assert float(recasting['error_sd']) == float(recasting['gap_sd']) != 0
    assert (recasting['seeds'], recasting['runs'], recasting['batch2_median_ms']) == ('0 1', '2', '5.0')
    assert (recasting['batch2_speed_up'], recasting['batch2_p90_ms']) == ('1.9', '6.0')
    assert (kd['line'], kd['error_mean'], kd['seconds_sd']) == ('kd, "old"', '', '')


def test_data_of_a_line_and_a_run(make_result, measures):
    result = make_result(images=100, stages=[dict(start_images=24)])
    row = table_rows([result], measures)[1]
    line = line_data(row, {'': 'a student'})
    assert line['images'] == dict(mean=124, sd=None, n=1) and line['student'] == 'a student'
    assert line['latency'] == {2: dict(median_ms=5.0, p10_ms=4.0, p90_ms=6.0, speed_up=1.9)}
    assert (line['params'], line['mults'], line['acts']) == (400_000, 60_000_000, 250_000)
    run = run_data(result, 'recasting')
    assert (run['images'], run['images_trained'], run['top1'], run['teacher_top1']) == (124, 100, 88.0, 90.0)
