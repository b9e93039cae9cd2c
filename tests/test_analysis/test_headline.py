import pytest

from mmrecast.analysis.headline import caution, comparison, headline, main_row, tiles
from mmrecast.analysis.latency import Latency
from mmrecast.analysis.rows import Measures, table_rows

PLAN = [dict(action='recast', source='basic 16×8×8', target='ConvBlock 16×8×8')] * 3 + [
    dict(action='rebuild', source='conv 16×8×8', target='rebuilt for 8 input channels'),
    dict(action='', source='', target=''),
]


def test_headline_is_computed(make_result, measures):
    rows = table_rows([make_result()], measures)
    got = headline(rows, teacher_name='ResNet-20', student_name='a plain network')
    assert got == (
        'ResNet-20 became a plain network: 2.00x fewer weights, 1.90x faster, 2.00 points more error than its teacher.'
    )
    assert headline(rows, PLAN).startswith('The teacher was recast (3 × basic → ConvBlock): 2.00x fewer')
    assert headline(table_rows([make_result('backprop', teacher=None)])) == 'backprop: 12.00 % error.'


@pytest.mark.parametrize(
    ('top1', 'words'),
    [(90.5, '0.50 points less error than its teacher'), (90.0, 'the same error as its teacher')],
)
def test_students_that_are_no_worse(make_result, top1, words):
    assert headline(table_rows([make_result(top1=top1)])).endswith(f': {words}.')


def test_a_slower_and_larger_student_is_called_that(make_result, measures):
    swapped = {'teacher': measures[''], '': measures['teacher']}
    got = headline(table_rows([make_result()], swapped))
    assert '2.00x more weights, 1.90x slower' in got


def test_every_batch_size_counts(make_result):
    """A student may be faster on one image and slower on many."""
    latencies = {
        name: Latency(1.0, 1.0, 1.0, ratio) for name, ratio in dict(base=1.0, fast=2.0, slow=0.5, same=1.001).items()
    }

    def line(*names):
        known = Measures(latencies={size: latencies[name] for size, name in zip((1, 64, 128), names, strict=False)})
        base = Measures(latencies=dict.fromkeys((1, 64, 128), latencies['base']))
        return headline(table_rows([make_result(top1=90.0)], {'teacher': base, '': known}))

    assert line('fast', 'slow').startswith(
        'recasting: 2.00x faster at batch 1 and 2.00x slower at batch 64, the same error'
    )
    assert line('same', 'fast').startswith('recasting: 2.00x faster at batch 64, ')
    assert line('same') == 'recasting: the same error as its teacher.'


def test_comparison_names_other_budgets(make_result):
    results = [make_result(), make_result('kd', top1=85.0, seconds=600.0)]
    assert comparison(table_rows(results)) == (
        'recasting saw 3,840 training images in 40 s; with as many images, kd has 3.00 points more error, in 10.0 min.'
    )
    results.append(make_result('at', top1=88.5, images=5000))
    assert 'at has 0.50 points less error after 5,000 images, in 40 s' in comparison(table_rows(results))
    assert 'with as many images' not in comparison(table_rows(results))
    assert comparison(table_rows(results[:1])) == ''
    results += [make_result(f'method{i}') for i in range(3)]
    assert comparison(table_rows(results)) == ''  # the table says it better


def test_caution_gives_the_size_of_a_point(make_result):
    got = caution(table_rows([make_result(top1=90.0)]), 360)
    assert got.startswith('The figures of recasting are from one run. Tested on 360 images: one image is 0.28 points')
    assert '1.58 points' in got  # sqrt(0.1 * 0.9 / 360)


def test_main_row(make_result):
    rows = table_rows([make_result('kd'), make_result()])
    assert main_row(rows).label == 'recasting'
    assert main_row(rows, 'kd').label == 'kd'
    assert main_row(table_rows([make_result('kd'), make_result('Recasting')])).label == 'Recasting'
    with pytest.raises(KeyError, match="no line 'at' to report on; there are kd, recasting"):
        main_row(rows, 'at')


def test_tiles(make_result, measures):
    got = tiles(table_rows([make_result()], measures))
    assert [(t.name, t.before, t.after, t.change) for t in got] == [
        ('top-1 error', '10.00 %', '12.00 %', '+2.00 points'),
        ('weights', '800.0 k', '400.0 k', '2.00x fewer'),
        ('multiplications', '120.00 M', '60.00 M', '2.00x fewer'),
        ('activations read', '500.0 k', '250.0 k', '2.00x fewer'),
        ('latency, batch 2', '10.0 ms', '5.00 ms', '1.90x faster'),
    ]
