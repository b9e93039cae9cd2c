"""What a run lets float32 round to on a GPU."""

import pytest
import torch
from tiny import NO_TEST, NO_VAL, config, recasting

from mmrecast.apis import ready_runner


@pytest.fixture(autouse=True)
def as_before():
    flags = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [each.allow_tf32 for each in flags]
    yield
    for each, value in zip(flags, before, strict=True):
        each.allow_tf32 = value


@pytest.mark.parametrize(('given', 'allowed'), [({}, False), (dict(tf32=False), False), (dict(tf32=True), True)])
def test_float32_is_float32_unless_asked(tmp_path, quick, given, allowed):
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = not allowed
    stages = [dict(kind='recast', iters=1), dict(kind='finetune', iters=1)]
    ready_runner(config(recasting(), stages, env_cfg=given, **NO_VAL, **NO_TEST), work_dir=str(tmp_path))
    assert torch.backends.cudnn.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is allowed
