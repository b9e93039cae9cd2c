"""Training in bfloat16, on processors, too: weights and their updates stay in float32."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from torch import nn

from mmrecast.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class Bf16OptimWrapper(OptimWrapper):
    """Run the networks under ``torch.autocast`` in bfloat16; nothing is scaled, the range being that of float32.

    mmengine's ``AmpOptimWrapper`` needs a GPU, this one does not. BN keeps its statistics, and the optimiser its state
    and the weights, in float32; starts and measurements (relative error, accuracy) are not under it.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """See mmengine's ``OptimWrapper``."""
        with super().optim_context(model), torch.autocast(get_device(), torch.bfloat16):
            yield
