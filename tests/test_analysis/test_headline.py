import pytest

from mmrecast.analysis.headline import caution, comparison, headline, main_row, tiles
from mmrecast.analysis.results import table_rows

PLAN = [dict(action='recast', source='basic 16×8×8', target='ConvBlock 16×8×8')] * 3 + [
    dict(action='rebuild', source='conv 16×8×8', target='rebuilt for 8 input channels'),
    dict(action='', source='', target=''),
]


def test_headline_is_computed(make_result, measures):
    rows = table_rows([make_result()], *measures)
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
    complexities, latencies = measures
    swapped = [{'teacher': m['student'], 'student': m['teacher']} for m in (complexities, latencies)]
    got = headline(table_rows([make_result()], *swapped))
    assert '2.00x more weights, 1.90x slower' in got


def test_comparison_names_other_budgets(make_result):
    results = [make_result(), make_result('kd', top1=85.0, seconds=600.0)]
    assert comparison(table_rows(results)) == (
        'recasting saw 3,840 training images in 40 s; with as many images, kd has 3.00 points more error, in 10.0 min.'
    )
    results.append(make_result('at', top1=88.5, images=5000))
    assert 'at has 0.50 points less error after 5,000 images, in 40 s' in comparison(table_rows(results))
    assert 'with as many images' not in comparison(table_rows(results))
    assert comparison(table_rows(results[:1])) == ''


def test_caution_gives_the_size_of_a_point(make_result):
    got = caution(table_rows([make_result(top1=90.0)]), 360)
    assert got.startswith('The figures of recasting are from one run. Tested on 360 images: one image is 0.28 points')
    assert '1.58 points' in got  # sqrt(0.1 * 0.9 / 360)


def test_main_row(make_result):
    rows = table_rows([make_result('kd'), make_result()])
    assert main_row(rows).label == 'recasting'
    assert main_row(rows, 'kd').label == 'kd'
    with pytest.raises(KeyError, match="no line 'at' to report on; there are kd, recasting"):
        main_row(rows, 'at')


def test_tiles(make_result, measures):
    got = tiles(table_rows([make_result()], *measures))
    assert [(t.name, t.before, t.after, t.change) for t in got] == [
        ('top-1 error', '10.00 %', '12.00 %', '+2.00 points'),
        ('weights', '800.0 k', '400.0 k', '2.00x fewer'),
        ('multiplications', '120.00 M', '60.00 M', '2.00x fewer'),
        ('activations read', '500.0 k', '250.0 k', '2.00x fewer'),
        ('latency per image', '5.00 ms', '2.50 ms', '1.90x faster'),
    ]
