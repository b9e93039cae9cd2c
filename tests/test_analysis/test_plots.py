import re
import sys

import pytest

from mmrecast.analysis.plots import (
    FEW,
    NAMED,
    SERIES,
    Mark,
    Point,
    check_matplotlib,
    latency_figure,
    plan_figure,
    stages_figure,
)

pytest.importorskip('matplotlib')


def texts(svg):
    """Return the texts of a figure with their styles."""
    return {text: style for style, text in re.findall(r'<text style="([^"]*)"[^>]*>([^<]*)</text>', svg)}


def test_latency_figure_names_every_point_in_its_colour():
    points = [Point('teacher', 4.0, 90.0, Mark(0)), Point('$kd$ <1>', 2.0, 88.0, Mark(2), sd=0.5)]
    styles = texts(latency_figure([(1, points), (64, points)]))
    assert 'var(--ink)' in styles['teacher']
    assert 'var(--s2)' in styles['$kd$ &lt;1&gt;']
    assert {'latency of one image, ms', 'latency of a batch of 64, ms', 'top-1, %'} <= set(styles)


def test_many_points_are_named_beside_the_figure():
    points = [Point('teacher', 4.0, 90.0, Mark(0))]
    points += [Point(f'run {i}', 2.0 + i, 88.0, Mark(i)) for i in range(1, NAMED + 1)]
    assert 'run 1' not in texts(latency_figure([(1, points)])) and 'teacher' in texts(latency_figure([(1, points)]))
    assert 'run 1' in texts(latency_figure([(1, points[:NAMED])]))


def test_marks_in_the_page_and_in_the_figures_agree():
    assert (Mark(0).css, Mark(1).css, Mark(SERIES + 2, 1).css) == ('c0', 'c1 m0', 'c2 m1')
    assert [mark.drawn(8)['marker'] for mark in (Mark(0), Mark(1), Mark(1, 2))] == ['D', 'o', '^']
    assert Mark(SERIES + 2).ink == Mark(2).ink != Mark(1).ink


def test_stages_figure_draws_what_is_there():
    stages = [
        dict(relative_error=0.1, top1=88.0),
        dict(relative_error=float('nan'), top1=None),
        dict(top1=89.0),
    ]
    svg = stages_figure([(stages, Mark(1))], teacher_top1=90.0)
    assert svg.count('aria-label') == 1
    assert '>teacher</text>' in svg
    assert 'before a stage' not in svg
    start = [dict(relative_error_start=0.2)]
    assert stages_figure([(start, Mark(1))]).count('before a stage') == 1
    many = stages_figure([(start + stages, Mark(i)) for i in range(1, FEW + 2)])
    assert 'before a stage' not in many and 'var(--s5)' in many


@pytest.mark.parametrize('least', [1e-4, 0.02, 0.5])
def test_errors_of_any_size_have_plain_numbers_on_their_axis(least):
    svg = stages_figure([([dict(relative_error=least), dict(relative_error=0.9)], Mark(1))])
    assert 'mathdefault' not in svg
    assert any(float(t) <= 0.9 for t in texts(svg) if re.fullmatch(r'0\.\d+', t))


def test_plan_figure_has_a_pair_of_bars_per_block():
    rows = [dict(kind='block', acts=(2000, 1000)), dict(kind='block', acts=(4000, 1000)), dict(kind='total')]
    svg = plan_figure(rows, 'acts', 'read', 'one')
    assert svg.count('fill: var(--s1)') == 2
    assert svg.count('fill: var(--quiet)') == 2
    assert 'read, k' in svg
    assert set(re.findall(r'id="(\w+)-', svg)) == {'one'}


def test_matplotlib_is_asked_for_by_name(monkeypatch):
    check_matplotlib()
    monkeypatch.setitem(sys.modules, 'matplotlib', None)
    with pytest.raises(
        ImportError, match=r"plots need matplotlib; install it with: pip install 'mmrecast\[quickstart\]'"
    ):
        check_matplotlib()
