import json
from itertools import product

import pytest
from hand_graphs import IMAGE, A, B, conv, graph_of, plain, vector

from mmrecast.algorithms.width_cost import WidthCost, build_cost
from mmrecast.algorithms.width_table import FORMAT
from mmrecast.surgery.channel_graph import Segment


def table(**changes):
    """Milliseconds of :func:`plain` at a / 1, 2, 4 and b / 1, 4."""
    sizes = dict(groups=1, kernel=1, positions=1)
    content = dict(
        format=FORMAT, network='plain', input_shape=[3, 8, 8], divisors=dict(a=[1, 2, 4], b=[1, 4]),
        layers=dict(
            a=dict(kind='conv', in_channels=3, out_channels=8, **sizes | dict(kernel=9, positions=16),
                   width_groups=['a'], milliseconds=[10, 7, 6]),
            b=dict(kind='conv', in_channels=8, out_channels=4, **sizes | dict(positions=16),
                   width_groups=['a', 'b'], milliseconds=[[5.0, 3.0], [4.0, 2.5], [3.5, 2.0]]),
            fc=dict(kind='linear', in_channels=4, out_channels=10, **sizes,
                    width_groups=['b'], milliseconds=[0.5, 0.25]),
        ),
    )  # fmt: skip
    return content | changes


def without(path, key):
    content = table()
    del content['layers'][path][key]
    return content


def with_entry(path, **changes):
    content = table()
    content['layers'][path] |= changes
    return content


def test_expected_milliseconds():
    cost = WidthCost(plain(), dict(a=(2, 1), b=(4, 1)), 'latency', table())
    # a: 3/4 · 7 + 1/4 · 10; b: 3/8 · (2.5 + 4) + 1/8 · (3 + 5); the classifier: (0.25 + 0.5) / 2
    expected = 7.75 + 3.4375 + 0.375
    assert cost(dict(a=vector(0.75, 0.25), b=vector(0.5, 0.5))).item() == pytest.approx(expected, rel=1e-12)
    assert cost.exact(dict(a=2)) == 7 + 4 + 0.5 and cost.exact({}) == 10 + 5 + 0.5
    assert WidthCost(plain(), dict(a=(1, 2)), 'latency', table(), classifier=False).exact({}) == 15


def test_a_group_that_was_measured_but_does_not_choose():
    cost = WidthCost(plain(), dict(b=(1, 4)), 'latency', table())
    assert cost.exact(dict(b=4)) == 10 + 3 + 0.25


def test_milliseconds_over_three_groups():
    """Expectation over all eight choices of a layer that reads two groups and gives a third."""
    both = graph_of(conv('a', IMAGE, (A,)), conv('b', IMAGE, (B,)), conv('c', (A, B), (Segment('c', 2),)))
    times = [[[1.0, 2.0], [4.0, 8.0]], [[16.0, 32.0], [64.0, 128.0]]]
    sizes = dict(kind='conv', groups=1, kernel=1, positions=1)
    content = table(divisors=dict(a=[1, 2], b=[1, 2], c=[1, 2]), layers=dict(
        a=dict(sizes, in_channels=3, out_channels=8, width_groups=[], milliseconds=0.0),
        b=dict(sizes, in_channels=3, out_channels=4, width_groups=['b'], milliseconds=[0.0, 0.0]),
        c=dict(sizes, in_channels=12, out_channels=2, width_groups=['a', 'b', 'c'], milliseconds=times),
    ))  # fmt: skip
    content['layers']['a'] |= dict(width_groups=['a'], milliseconds=[0.0, 0.0])
    cost = WidthCost(both, dict.fromkeys('abc', (1, 2)), 'latency', content)
    chances = dict(a=vector(0.5, 0.5), b=vector(0.25, 0.75), c=vector(0.125, 0.875))
    expected = sum(
        chances['a'][i] * chances['b'][j] * chances['c'][k] * times[i][j][k]
        for i, j, k in product(range(2), repeat=3)
    )  # fmt: skip
    assert cost(chances).item() == pytest.approx(expected.item(), rel=1e-12)


def test_a_table_of_a_file(tmp_path):
    (tmp_path / 'table.json').write_text(json.dumps(table()))
    cfg = dict(type='latency', table=str(tmp_path / 'table.json'))
    assert build_cost(cfg, plain(), dict(a=(1, 2))).exact(dict(a=2)) == 7 + 4 + 0.5


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (table(format='other'), "the latency table is no table of measured widths: its format is 'other', not 'mmrec"),
        ({'format': FORMAT}, 'the latency table is incomplete: it lacks input_shape, divisors, layers'),
        (table(input_shape=[3, 9, 9]), r'was measured on images of \(3, 9, 9\), but the network is given \(3, 8, 8\)'),
        (table(layers={}), r"is of another network \(plain\): it lacks the layer 'a'"),
        (table(layers=dict(c=1, b=1)), r"it lacks the layer 'a' \(nearest: b, c\)"),
        (with_entry('b', in_channels=16), r"another network \(plain\): in_channels of 'b' is 16 there, 8 here"),
        (without('fc', 'kind'), "kind of 'fc' is None there, 'linear' here"),
        (table(divisors=dict(a=[1, 4], b=[1, 4])), r"has not measured 'a' with 'a' / 2, only / \[1, 4\]"),
        (table(divisors=dict(a=[1, 2])), r"has not measured 'b' with 'b' / 1, only / \[\]"),
        (
            with_entry('b', width_groups=['b'], milliseconds=[5.0, 3.0]),
            "has 'b' at the widths of b, but 'a' nar",
        ),
        (with_entry('a', width_groups=[], milliseconds=5.0), "has 'a' at the widths of none, but 'a' narrows, too"),
        (with_entry('a', milliseconds=[10, None, 6]), "has no milliseconds of 'a' at a / 2"),
        (with_entry('b', milliseconds=[[5.0, 3.0], [4.0]]), "has no milliseconds of 'b' at a / 2, b / 4"),
        (with_entry('b', milliseconds=3.0), "has no milliseconds of 'b' at a / 1, b / 1"),
        (with_entry('a', milliseconds=[10, float('nan'), 6]), "has no milliseconds of 'a' at a / 2"),
        (with_entry('a', milliseconds=[10, -1, 6]), "has no milliseconds of 'a' at a / 2"),
        (without('a', 'milliseconds'), "has no milliseconds of 'a' at a / 1"),
    ],
)
def test_tables_that_do_not_fit(content, message):
    with pytest.raises(ValueError, match=message):
        WidthCost(plain(), dict(a=(1, 2), b=(1, 4)), 'latency', content)


def test_files_that_are_no_tables(tmp_path):
    (tmp_path / 'table.json').write_text('{')
    with pytest.raises(FileNotFoundError, match=r'there is no latency table .*tabel.json \(nearest: table.json\)'):
        WidthCost(plain(), {}, 'latency', str(tmp_path / 'tabel.json'))
    with pytest.raises(FileNotFoundError, match='there is no latency table no/such.json'):
        WidthCost(plain(), {}, 'latency', 'no/such.json')
    with pytest.raises(ValueError, match='table.json is not JSON: '):
        WidthCost(plain(), {}, 'latency', tmp_path / 'table.json')
    (tmp_path / 'table.json').write_text('[1]')
    with pytest.raises(ValueError, match="table.json is no table of measured widths: its format is 'list'"):
        WidthCost(plain(), {}, 'latency', tmp_path / 'table.json')
