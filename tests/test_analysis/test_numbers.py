import pytest

from mmrecast.analysis.numbers import Stat, compared, duration, milliseconds, short, times


def test_stat_is_mean_and_sample_deviation():
    stat = Stat.of([1.0, None, 2.0, 6.0])
    assert (stat.mean, stat.n) == (3.0, 3)
    assert stat.sd == pytest.approx(7**0.5)  # (4 + 1 + 9) / 2
    assert stat.text() == '3.00 ± 2.65'
    assert Stat.of([None]) is None
    assert Stat.of([5.0]).text(1) == '5.0'


def test_signs():
    assert Stat.of([0.3]).text(sign=True) == '+0.30'
    assert Stat.of([-0.3]).text(sign=True) == '−0.30'
    assert Stat.of([-0.001]).text(sign=True) == '0.00'


def test_texts():
    assert [short(n) for n in (None, 432, 412_848, 61_780_000, 4.089e9)] == [
        '–', '432', '412.8 k', '61.78 M', '4.09 G',
    ]  # fmt: skip
    assert [times(x) for x in (None, 2.054, 9.96)] == ['–', '2.05x', '10.0x']
    assert [milliseconds(x) for x in (None, 0.4123, 2.8, 112.3, 2345.6)] == [
        '–',
        '0.412',
        '2.80',
        '112',
        '2,346',
    ]
    assert [duration(s) for s in (48, 750, 8316)] == ['48 s', '12.5 min', '2.31 h']
    assert compared(200, 100, 'fewer', 'more') == '2.00x fewer'
    assert compared(100, 150, 'fewer', 'more') == '1.50x more'
    assert compared(0, 150, 'fewer', 'more') is None
    assert compared(1000, 1004, 'fewer', 'more') is None and compared(1006, 1000, 'fewer', 'more') == '1.01x fewer'
