"""A recasting of a small teacher, brought to any of its stages without a runner."""

import pytest
import torch
from tiny import SHAPE, classifier, recasting
from torch import Tensor, nn

from mmrecast.registry import MODELS
from mmrecast.stages import Stage


@pytest.fixture
def images() -> Tensor:
    return torch.randn(12, *SHAPE, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def labels() -> Tensor:
    return torch.arange(12) % 10


@pytest.fixture
def algorithm_at(registered):
    """Return a function: (block, or None for fine-tuning; options of the recasting) → the algorithm in that stage."""

    def build(block: str | None, batches=(), teacher: dict | None = None, **options):
        torch.manual_seed(0)
        algorithm = MODELS.build(recasting(teacher or classifier(depth=14), **options))
        with torch.no_grad():  # statistics and scales that are not those of a new BatchNorm
            for norm in (m for m in algorithm.teacher.modules() if isinstance(m, nn.BatchNorm2d)):
                norm.running_mean.normal_(0, 0.1)
                norm.running_var.uniform_(0.5, 1.5)
                norm.weight.uniform_(0.7, 1.3)
                norm.bias.normal_(0, 0.1)
        algorithm.student.load_state_dict(algorithm.teacher.state_dict())
        for stage in algorithm.expand([Stage('recast', iters=1), Stage('finetune', iters=1)]):
            algorithm.begin_stage(stage, batches)
            if stage.block == block:
                break
        return algorithm

    return build
