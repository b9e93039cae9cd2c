"""One budget for a schedule: lengths and schedulers in proportion, nothing lost to rounding."""

import pytest
import tiny

from mmrecast.engine.budget import within_budget
from mmrecast.stages import Stage

STEPS = dict(type='MultiStepLR', milestones=[150, 180, 210], gamma=0.1)


def lengths(stages):
    assert all(stage.epochs is None for stage in stages)
    return [stage.iters for stage in stages]


@pytest.mark.parametrize(
    ('epochs', 'budget', 'starts', 'expected'),
    [
        ([6, 164], 850, [0, 0], [30, 820]),
        ([10, 10, 10, 20], 10, [0] * 4, [2, 2, 2, 4]),
        ([1] * 7, 10, [0] * 7, [1, 1, 2, 1, 2, 1, 2]),
        ([1, 1000], 10, [0, 0], [1, 9]),  # every stage has an iteration
        ([1000, 1], 10, [0, 0], [9, 1]),
        ([2, 2, 4], 20, [2, 2, 0], [4, 4, 8]),  # what starts read counts
        ([0, 0, 5], 30, [8, 8, 0], [0, 0, 14]),  # closed-form starts alone
        ([240], 1, [0], [1]),
    ],
)
def test_lengths(epochs, budget, starts, expected):
    stages = within_budget([Stage('train', epochs=n) for n in epochs], budget, 391, starts)
    assert lengths(stages) == expected and sum(expected) + sum(starts) == budget


def test_schedulers():
    """RepDistiller's drops at 150, 180 and 210 of 240 epochs stay at the same shares."""
    (stage,) = within_budget([Stage('train', epochs=240)], 800, 782, [0], STEPS)
    assert stage.param_scheduler == dict(STEPS, milestones=[500, 600, 700], by_epoch=False)
    own = [dict(type='LinearLR', end=1, start_factor=0.1), dict(type='CosineAnnealingLR', by_epoch=False, begin=391)]
    (stage,) = within_budget([Stage('train', epochs=10, param_scheduler=own)], 391, 391, [0], STEPS)
    assert [one.get('end') for one in stage.param_scheduler] == [39, None]
    assert stage.param_scheduler[1]['begin'] == 39  # it was in iterations before
    (stage,) = within_budget([Stage('train', iters=100)], 50, 391, [0], dict(type='StepLR', step_size=30, gamma=0.1))
    assert stage.param_scheduler['step_size'] == 15
    named = dict(student=STEPS, generator=[STEPS])
    (stage,) = within_budget([Stage('train', epochs=240)], 2400, 10, [0], named)
    assert stage.param_scheduler['generator'][0]['milestones'] == [1500, 1800, 2100]
    assert within_budget([Stage('train', epochs=2)], 7, 10, [0])[0].param_scheduler is None
    assert STEPS['milestones'] == [150, 180, 210]


@pytest.mark.parametrize('budget', [0, -3, 2.5, True, '800'])
def test_what_is_no_budget(budget):
    with pytest.raises(ValueError, match='budget of the StagedLoop must be a whole number of iterations, at least 1'):
        within_budget([Stage('train', epochs=2)], budget, 10, [0])


def test_too_small():
    stages = [Stage('train', epochs=2), Stage('train', epochs=0), Stage('train', epochs=2)]
    with pytest.raises(ValueError, match='a budget of 6 iterations is too small: .* need at least 7, 5 of them'):
        within_budget(stages, 6, 10, [0, 5, 0])


def test_a_run_of_a_budget(tmp_path):
    stages = [dict(kind='recast', blocks='all', epochs=30), dict(kind='finetune', epochs=60)]
    cfg = tiny.config(tiny.recasting(start=dict(type='closed_form', images=64)), stages, dict(budget=16))
    result = tiny.run(cfg, tmp_path)
    assert [stage['iters'] for stage in result['stages']] == [2, 2, 2, 4]
    assert [stage['start_images'] for stage in result['stages']] == [64, 64, 64, 0]
    assert result['images'] + 3 * 64 == 16 * 32
