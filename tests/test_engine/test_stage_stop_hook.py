"""Stages that end early."""

import pytest
from tiny import Killed, classifier, config, differing, recasting, run, weights, without_seconds

from mmrecast.engine import StageStopHook

pytestmark = pytest.mark.usefixtures('quick')
STAGES = [dict(kind='recast', iters=8), dict(kind='finetune', iters=3)]
STEADY = dict(type='ConstantLR', factor=1.0)


def stopping(**options):
    model = recasting(classifier(depth=8), start='closed_form')
    hook = dict(type='StageStopHook', **options)
    return config(model, STAGES, hooks=[hook], param_scheduler=STEADY, checkpoint=dict(iter_interval=1))


def lengths(result: dict) -> list[int]:
    return [record['iters'] for record in result['stages']]


def test_at_the_first_measurement_where_the_error_is_small_enough(tmp_path):
    result = run(stopping(interval=3, error=1e9, min_gain=0), tmp_path)
    assert lengths(result) == [3, 3, 3, 3]
    assert [record['images'] for record in result['stages']] == [96] * 4


def test_at_the_second_where_it_gains_too_little(tmp_path):
    assert lengths(run(stopping(interval=2, min_gain=1), tmp_path)) == [4, 4, 4, 3]


def test_not_at_all_where_it_gains_enough_or_the_stage_is_of_another_kind(tmp_path):
    assert lengths(run(stopping(interval=9, error=1e9), tmp_path / 'long')) == [8, 8, 8, 3]
    assert lengths(run(stopping(interval=2, error=1e9, kinds=['finetune']), tmp_path / 'kind')) == [8, 8, 8, 2]


@pytest.mark.parametrize('n', range(1, 11))
def test_resumed_from_any_iteration_it_ends_at_the_same_one(tmp_path, n):
    """A checkpoint written at the very iteration that ends a stage, too."""
    cfg = stopping(interval=2, min_gain=0.5)
    whole = run(cfg, tmp_path / 'whole')
    assert 4 <= lengths(whole)[0] < 8
    with pytest.raises(Killed):
        run(cfg, tmp_path / 'cut', crash=dict(kind='iter', n=n))
    again = run(cfg, tmp_path / 'cut', resume=True)
    assert without_seconds(again) == without_seconds(whole)
    assert differing(weights(tmp_path / 'whole'), weights(tmp_path / 'cut')) == []


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        (dict(interval=0), 'interval of the StageStopHook must be a whole number of at least 1, got 0'),
        (dict(min_gain=1.5), 'min_gain of the StageStopHook must be a share from 0 to 1, got 1.5'),
        (dict(error=-1), 'error of the StageStopHook must be at least 0, got -1'),
        (dict(error=float('nan')), 'error of the StageStopHook must be at least 0, got nan'),
        (dict(kinds='recast'), "kinds of the StageStopHook is a list of kinds of stages, got 'recast'"),
    ],
)
def test_refused(option, message):
    with pytest.raises(ValueError, match=message):
        StageStopHook(**option)


def test_a_kind_that_the_algorithm_does_not_have(tmp_path):
    with pytest.raises(ValueError, match="StageStopHook: there is no stage 'train' here, but recast, align, finetune"):
        run(stopping(kinds=['train']), tmp_path)
