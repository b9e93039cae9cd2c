"""Predicted and measured latency of random plans, and the growth of planning time, on a small network."""

import json
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / 'tools' / 'benchmarks' / 'plan_prediction.py'


def test_random_plans_are_measured_and_steps_timed(call, loaded, tool, tmp_path):
    out, figure = tmp_path / 'prediction.json', tmp_path / 'prediction.svg'
    status, said, error = call(
        '--depths', 8, '--plans', 3, '--repeats', 2, '--priced', 4, '--out', out, '--plot', figure
    )
    assert status == 0, error
    content = json.loads(out.read_text())
    assert len(content['plans']) == 3 and '3 random plans: predicted within' in said
    for plan in content['plans']:
        assert plan['off'] == pytest.approx(plan['speedup'] / plan['predicted_speedup'] - 1)
    assert content['largest_off'] == max(abs(plan['off']) for plan in content['plans'])
    narrow, wide = content['growth']
    assert (narrow['blocks'], wide['blocks']) == (3, 3) and wide['candidates'] > narrow['candidates']
    assert (
        wide['seconds']['choice'] > 0 and len(wide['priced']) == 3 and 'prices of backbone.layer1.0' in wide['seconds']
    )
    assert figure.stat().st_size > 1000 and {'command', 'machine', 'versions'} <= set(content)


@pytest.mark.parametrize(('option', 'value', 'message'), [('--plans', 0, 'plans'), ('--priced', -1, 'must be')])
def test_refused(call, loaded, tool, option, value, message):
    status, _, error = call(option, value)
    assert status == 2 and message in error
