import json
import math
import re
from pathlib import Path

import pytest
from PIL import Image
from searching import decay, search
from tiny import NO_TEST, NO_VAL, config, run

from mmrecast.analysis.width_plots import chosen, draw_widths, expected_shares, full_width, read_widths, summary

TOOL = Path(__file__).parents[2] / 'tools' / 'visualization' / 'plot_widths.py'
SGD = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.5))


def group(probabilities, full=64, divisors=(1, 2, 4), layers=1):
    widths = [full // divisor for divisor in divisors]
    names = [f'conv{i}' for i in range(layers)]
    return dict(widths=widths, divisors=list(divisors), probabilities=list(probabilities), layers=names)


def record(epoch, groups, **values):
    return dict(stage=0, epoch=epoch, iter=3 * epoch, **values, groups=groups)


RECORDS = [
    record(0, dict(a=group([0.25, 0.5, 0.25]), b=group([0.0, 0.5, 0.5], 128, (4, 8, 16), 3)), tau=15.0),
    record(1, dict(a=group([0.0, 0.1, 0.9]), b=group([0.7, 0.2, 0.1], 128, (4, 8, 16), 3)), tau=14.34),
]


@pytest.fixture
def plot(call, monkeypatch, tmp_path):
    """Run the tool in this process in a folder of its own: (exit status, output, error)."""
    monkeypatch.chdir(tmp_path)
    return call


def write(folder, content):
    folder.mkdir(exist_ok=True)
    (folder / 'widths.json').write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def drawing(path):
    return re.sub(r'\s+', ' ', path.read_text())


# ---- the tool --------------------------------------------------------------------------------------------------------


def test_a_search_that_was_run(plot, tmp_path, quick):
    quiet = NO_VAL | NO_TEST | dict(optim_wrapper=SGD, param_scheduler=[decay(0.5, by_epoch=True)])
    stages = [dict(kind='search', epochs=2, val=False), dict(kind='train', iters=1, val=False)]
    run(config(search(tau=8.0, gamma=0.5), stages, hooks=[dict(type='WidthHook')], **quiet), tmp_path / 'run')
    status, text, error = plot('run')
    assert (status, error) == (0, '')
    assert text == '2 groups of layers after epoch 2, divided: 2 by 4\nwritten: widths.png\n'
    with Image.open(tmp_path / 'widths.png') as image:
        assert image.width == 1900 and image.height > 400
    status, text, _ = plot('run', '--out', 'figures/w.svg')
    svg = drawing(tmp_path / 'figures' / 'w.svg')
    assert status == 0 and text.endswith('written: figures/w.svg\n')
    for words in ('>first<', '>second<', '>8 → 2<', '>16 → 4<', '>width / 4<', '>epoch (temperature τ from 8 to 4)<'):
        assert words in svg


def test_mistakes(plot, tmp_path):
    write(tmp_path / 'empty', [])
    write(tmp_path / 'no_groups', [record(0, {})])
    write(tmp_path / 'broken', '[{"stage": 0,')
    write(tmp_path / 'other', dict(a=1))
    write(tmp_path / 'fields', [dict(stage=0, epoch=1, iter=3)])
    write(tmp_path / 'uneven', [record(0, dict(a=group([0.5, 0.5])))])
    write(tmp_path / 'form', [record(0, dict(a=dict(group([1, 0, 0]), widths=8)))])
    (tmp_path / 'without').mkdir()
    for args, message in [
        (['nowhere'], 'error: there is no work dir nowhere\n'),
        (['without'], "error: without holds no widths.json: train with custom_hooks=[dict(type='WidthHook')]\n"),
        (['empty'], 'error: empty/widths.json is empty: the search had not begun\n'),
        (['no_groups'], 'error: no_groups/widths.json is empty: the search had not begun\n'),
        (
            ['broken'],
            'error: broken/widths.json is no record of widths (broken/widths.json is not JSON: Expecting property name',
        ),
        (['other'], 'error: other/widths.json is no record of widths ('),
        (['fields'], "error: fields/widths.json is no record of widths ('groups' is missing)\n"),
        (['uneven'], 'error: uneven/widths.json is no record of widths (a group has as many widths as divisors and'),
        (['form'], 'error: form/widths.json is no record of widths (a group is dict(widths=[…], divisors=[…], prob'),
        (['empty', '--out', 'a.gif'], "error: --out must end in one of .png, .svg, .pdf, got 'a.gif'\n"),
    ]:
        status, text, error = plot(*args)
        assert (status, text, error.count('\n')) == (2, '', 1) and error.startswith(message), error
    assert not (tmp_path / 'widths.png').exists()


# ---- what is drawn ---------------------------------------------------------------------------------------------------


def test_numbers():
    a, b = RECORDS[-1]['groups'].values()
    assert (full_width(a), full_width(b)) == (64, 128) and (chosen(a), chosen(b)) == (2, 0)
    shares = expected_shares(RECORDS)
    assert shares[0] == pytest.approx([0.25 + 0.5 / 2 + 0.25 / 4, 0.1 / 2 + 0.9 / 4])
    assert shares[1] == pytest.approx([0.5 / 8 + 0.5 / 16, 0.7 / 4 + 0.2 / 8 + 0.1 / 16])
    assert summary(RECORDS) == '2 groups of layers after epoch 1, divided: 2 by 4'
    begun = [record(0, {}), *RECORDS]
    assert math.isnan(expected_shares(begun)[0][0]) and expected_shares(begun)[1][1:] == shares[1]


def test_bars_and_map(monkeypatch, tmp_path):
    """The bars of a group are as long as its probabilities, one behind the other; the map holds the shares."""
    from matplotlib.figure import Figure

    figures = []
    monkeypatch.setattr(Figure, 'savefig', lambda figure, *args, **kwargs: figures.append(figure))
    draw_widths(RECORDS, tmp_path / 'a.png')
    left, right = figures[0].axes[:2]
    assert left.images[0].get_array().tolist() == expected_shares(RECORDS)
    assert left.images[0].get_clim() == (0, 1)
    bars = {
        (round(bar.get_y() + 0.4), round(bar.get_x(), 6)): bar.get_width() for bar in right.patches if bar.get_width()
    }
    assert bars == pytest.approx(
        {(0, 0): 0.1, (0, 0.1): 0.9, (1, 0): 0.7, (1, 0.7): 0.2, (1, 0.9): 0.1}
    )  # a: by 2 and 4; b: by 4, 8 and 16
    assert [text.get_text() for text in right.texts] == ['64 → 16', '128 → 32']
    assert [text.get_text() for text in left.get_yticklabels()] == ['a', 'b (+2)']
    legend = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert legend == ['width / 1', 'width / 2', 'width / 4', 'width / 8', 'width / 16']
    draw_widths([record(0, dict(b=RECORDS[0]['groups']['b']))], tmp_path / 'b.png')  # a single record, without τ
    left = figures[1].axes[0]
    assert left.images[0].get_clim() == (0, 0.25) and left.get_xlabel() == 'epoch'


def test_many_groups_stay_readable(tmp_path):
    """Names of 40 groups are in the figure, each at its own height, further apart than they are high."""
    names = [f'backbone.layer{i // 10}.{i % 10}.conv1' for i in range(40)]
    records = [record(e, {name: group([0.2, 0.3, 0.5]) for name in names}) for e in range(101)]
    write(tmp_path, records)
    draw_widths(read_widths(tmp_path), tmp_path / 'w.svg')
    svg = drawing(tmp_path / 'w.svg')
    heights = []
    for name in names:
        (at,) = re.findall(
            rf'translate\([\d.]+ ([\d.]+)\)[^>]*>{re.escape(name)}<|y="([\d.]+)"[^>]*>{re.escape(name)}<', svg
        )
        heights.append(float(at[0] or at[1]))
    gaps = [b - a for a, b in zip(heights, heights[1:], strict=False)]
    assert min(gaps) > 10 and max(gaps) - min(gaps) < 0.1  # points; the letters have 8
    ticks = re.findall(r'>(\d+)<', svg)
    assert '0' in ticks and '100' in ticks and len([t for t in ticks if t.isdigit()]) < 20
