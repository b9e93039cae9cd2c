import re

import pytest

from mmrecast.analysis.plots import _apart, latency_figure, plan_figure, stages_figure

pytest.importorskip('matplotlib')


def test_labels_that_would_overlap_are_moved_apart():
    assert _apart([10.0, 10.0, 30.0], 2.0) == [9.0, 11.0, 30.0]
    assert _apart([4.0, 5.0, 6.0], 2.0) == pytest.approx([3.0, 5.0, 7.0], abs=0.01)
    assert _apart([3.0, 1.0], 1.0) == [3.0, 1.0]


def test_latency_figure_names_every_point_in_its_colour():
    svg = latency_figure([('teacher', 4.0, 10.0, None, 0), ('$kd$ <1>', 2.0, 12.0, 0.5, 2)])
    texts = re.findall(r'<text style="([^"]*)"[^>]*>([^<]*)</text>', svg)
    colours = {text: style for style, text in texts}
    assert 'var(--ink)' in colours['teacher']
    assert 'var(--s2)' in colours['$kd$ &lt;1&gt;']


def test_stages_figure_draws_what_is_there():
    stages = [
        dict(relative_error=0.1, top1=88.0),
        dict(relative_error=float('nan'), top1=None),
        dict(top1=89.0),
    ]
    svg = stages_figure([('recasting', stages, 1)], teacher_top1=90.0)
    assert svg.count('aria-label') == 1
    assert '>teacher</text>' in svg
    assert 'before a stage' not in svg
    assert stages_figure([('recasting', [dict(relative_error_start=0.2)], 1)]).count('before a stage') == 1


def test_plan_figure_has_a_pair_of_bars_per_block():
    rows = [dict(kind='block', acts=(2000, 1000)), dict(kind='block', acts=(4000, 1000)), dict(kind='total')]
    svg = plan_figure(rows, 'acts', 'read')
    assert svg.count('fill: var(--s1)') == 2
    assert svg.count('fill: var(--quiet)') == 2
    assert 'read, k' in svg
