"""Several teachers as one."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmrecast.models.build import build_network
from mmrecast.models.input_adapter import InputAdapter
from mmrecast.models.load import load_weights
from mmrecast.registry import MODELS
from mmrecast.utils.names import nearest

__all__ = ['TeacherEnsemble']

_KEYS = ('network', 'ckpt', 'weight', 'input')


@MODELS.register_module()
class TeacherEnsemble(nn.Module):
    """The weighted mean of several networks' logits; each network's own activations can be tapped by its name.

    Args:
        teachers (dict[str, dict]): By name, ``dict(network=…, ckpt=…, weight=1.0, input=dict(mean=…, std=…, size=…))``;
            ``network`` as everywhere, the others optional. ``weight`` counts in the mean (the weights are divided by
            their sum); ``input`` is for a teacher that sees images in another way, see :class:`InputAdapter`.

    Raises:
        ValueError: There is no teacher, a key is unknown, a weight is not positive, or weights do not fit.
        FileNotFoundError: A ``ckpt`` does not exist.
    """

    def __init__(self, teachers: Mapping[str, Mapping]) -> None:
        super().__init__()
        if not isinstance(teachers, Mapping) or not teachers:
            raise ValueError(f'TeacherEnsemble: teachers is dict(name=dict(network=…)), got {teachers!r}')
        weights = []
        for name, entry in teachers.items():
            for key in entry:
                if key not in _KEYS:
                    raise ValueError(f'TeacherEnsemble: teacher {name!r} has no key {key!r}{nearest(str(key), _KEYS)}')
            if 'network' not in entry:
                raise ValueError(f'TeacherEnsemble: teacher {name!r} needs a network')
            network, weight = build_network(entry['network']), entry.get('weight', 1.0)
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float('inf'):
                raise ValueError(f'TeacherEnsemble: the weight of {name!r} must be positive, got {weight!r}')
            if entry.get('ckpt') is not None:
                load_weights(network, entry['ckpt'])
            self.add_module(name, network)
            self.add_module(f'{name}_input', InputAdapter(**(entry.get('input') or {})))
            weights.append(float(weight))
        self.names = tuple(teachers)
        self.register_buffer('weights', torch.tensor(weights) / sum(weights), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to the mean of the logits (N, classes).

        Raises:
            ValueError: The teachers have different classes.
        """
        logits = [self.get_submodule(n)(self.get_submodule(f'{n}_input')(images)) for n in self.names]
        if len({tuple(one.shape) for one in logits}) > 1:
            classes = ', '.join(f'{n}: {one.shape[-1]}' for n, one in zip(self.names, logits, strict=True))
            raise ValueError(f'TeacherEnsemble: the teachers have different classes ({classes})')
        return torch.einsum('k,knc->nc', self.weights.to(logits[0].dtype), torch.stack(logits))
