"""What a run lets float32 round to on a GPU."""

import pytest
import torch
from tiny import NO_TEST, NO_VAL, config, recasting

from mmrecast.apis import ready_runner


@pytest.mark.parametrize(('given', 'allowed'), [({}, False), (dict(tf32=False), False), (dict(tf32=True), True)])
def test_float32_is_float32_unless_asked(tmp_path, quick, monkeypatch, given, allowed):
    for flags in (torch.backends.cudnn, torch.backends.cuda.matmul):
        monkeypatch.setattr(flags, 'allow_tf32', not allowed)
    stages = [dict(kind='recast', iters=1), dict(kind='finetune', iters=1)]
    ready_runner(config(recasting(), stages, env_cfg=given, **NO_VAL, **NO_TEST), work_dir=str(tmp_path))
    assert torch.backends.cudnn.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is allowed
