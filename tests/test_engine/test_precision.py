"""bfloat16 on processors."""

import pytest
import torch
from tiny import classifier, config, recasting, run, weights
from torch import nn

from mmrecast.engine import Bf16OptimWrapper
from mmrecast.utils.checkpoint import load_file


def test_forward_in_bfloat16_weights_and_state_in_float32():
    torch.manual_seed(0)
    layer, x = nn.Linear(4, 3), torch.randn(5, 4)
    wrapper = Bf16OptimWrapper(torch.optim.Adam(layer.parameters(), 1e-3))
    with wrapper.optim_context(layer):
        out = layer(x)
    expected = x.bfloat16() @ layer.weight.bfloat16().T + layer.bias.bfloat16()
    assert out.dtype == torch.bfloat16 and torch.allclose(out, expected, atol=2e-2)
    wrapper.backward(out.float().square().mean())
    assert layer.weight.grad.dtype == torch.float32
    wrapper.step()
    state = wrapper.optimizer.state[layer.weight]
    assert {layer.weight.dtype, state['exp_avg'].dtype} == {torch.float32}


def test_a_recasting_in_it_is_close_to_one_in_float32(tmp_path, quick):
    """What amp=True makes of a config where there is no GPU."""
    cfg = config(
        recasting(classifier(depth=8), start='closed_form'),
        [dict(kind='recast', iters=6), dict(kind='finetune', iters=6)],
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-4)),
    )
    full = run(cfg, tmp_path / 'full')
    half = run(cfg, tmp_path / 'half', amp=not torch.cuda.is_available())
    errors = [[record['relative_error'] for record in result['stages']] for result in (full, half)]
    assert errors[1] == pytest.approx(errors[0], rel=0.1) and errors[0] != errors[1]
    assert all(value.dtype != torch.bfloat16 for value in weights(tmp_path / 'half').values())
    latest = load_file((tmp_path / 'half' / 'last_checkpoint').read_text())
    assert latest['staged']['stage'] == 4
