"""The teacher's side of the overhaul of feature distillation: the margin ReLU."""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmrecast.registry import MODELS
from mmrecast.utils.modules import get_module

__all__ = ['OFDTeacherConnector', 'norm_before']

_SHORTCUTS = ('shortcut', 'downsample')  # names of a block's second path


class TapLike(Protocol):
    """What is known of a tap: ``read`` ('output' or 'input') of the module at ``path`` in its ``call``."""

    path: str
    call: int | None
    read: str


@MODELS.register_module()
class OFDTeacherConnector(nn.Module):
    """Margin ReLU: max(x, m) with a negative margin m per channel, the mean of what the teacher's ReLU cuts off.

    Heo et al., "A Comprehensive Overhaul of Feature Distillation" (ICCV 2019). With bias β and weight γ of the BN in
    front of the ReLU, x ~ N(β, γ²) and m = E[x | x < 0] = β − |γ| φ(β/|γ|) / Φ(−β/|γ|); where P(x < 0) ≤ 0.001, it is
    −3|γ|, as in MMRazor, whose class of the same name gives these numbers. In a residual block x is a sum, and the BN
    is the last one in front of the sum, as in mdistiller.

    Args:
        norms (str | list[str] | None): Paths of the teacher's BNs, one for each tap. Defaults to None: the BN each tap
            follows (see :func:`norm_before`).
    """

    takes_list = True

    def __init__(self, norms: str | Sequence[str] | None = None) -> None:
        super().__init__()
        self.norms = None if norms is None else [norms] if isinstance(norms, str) else list(norms)
        self.paths: list[str] = []  # of the BNs the margins are of

    def bind(self, network: nn.Module, taps: TapLike | Sequence[TapLike] | None = None) -> None:
        """Compute the margins from the BNs of ``network``.

        Args:
            network (nn.Module): The teacher.
            taps (TapLike | Sequence[TapLike], optional): The taps whose activations come in. Needed without ``norms``.

        Raises:
            KeyError: ``network`` has no module at one of ``norms``.
            ValueError: There is not one BN with weight and bias for every tap.
        """
        taps = None if taps is None else list(taps) if isinstance(taps, Sequence) else [taps]
        if self.norms is None and taps is None:
            raise ValueError("OFDTeacherConnector: name the teacher's BN in front of each tap: norms=[…]")
        paths = self.norms if self.norms is not None else [norm_before(network, tap) for tap in taps]
        if taps is not None and len(taps) != len(paths):
            raise ValueError(f'OFDTeacherConnector: one BN per tap expected, got {paths} for {len(taps)} taps')
        for i, path in enumerate(paths):
            norm = get_module(network, path)
            if not isinstance(norm, _BatchNorm) or not norm.affine:
                raise ValueError(
                    f'OFDTeacherConnector: {path!r} must be a BatchNorm with weight and bias, it is {norm!r}'
                )
            # Not in checkpoints: it follows from the teacher.
            self.register_buffer(f'margin{i}', margin(norm).view(1, -1, 1, 1), persistent=False)
        self.paths = paths

    def forward(self, feature: Tensor | Sequence[Tensor]) -> Tensor | list[Tensor]:
        """Apply the margin ReLU to the pre-activation (N, C, H, W), or to each of several.

        Raises:
            ValueError: These are not as many as there are BNs, one has other channels, or ``bind`` was not called.
        """
        features = [feature] if isinstance(feature, Tensor) else feature
        if len(features) != len(self.paths):
            given = f'{len(self.paths)} BNs: {self.paths}' if self.paths else 'no BN: bind(network) comes first'
            raise ValueError(f'OFDTeacherConnector: {len(features)} features but {given}')
        cut = [self._cut(i, x) for i, x in enumerate(features)]
        return cut[0] if isinstance(feature, Tensor) else cut

    def _cut(self, i: int, feature: Tensor) -> Tensor:
        low = getattr(self, f'margin{i}')  # (1, C, 1, 1)
        if feature.dim() != 4 or feature.shape[1] != low.shape[1]:
            raise ValueError(
                f'OFDTeacherConnector: the BN {self.paths[i]!r} has {low.shape[1]} channels, the feature is '
                f'{tuple(feature.shape)}; norms=[…] names other BNs'
            )
        return torch.maximum(feature, low)

    def extra_repr(self) -> str:
        """Show which BNs the margins are of."""
        return f'norms={self.paths or self.norms}'


@torch.no_grad()
def margin(norm: _BatchNorm) -> Tensor:
    """Return the margin of every channel (C,), in the precision of the BN's weight; the computation is in float64."""
    weight, bias = norm.weight.double().abs(), norm.bias.double()
    ratio = bias / weight.clamp_min(torch.finfo(torch.float64).tiny)
    below = torch.special.ndtr(-ratio)  # P(x < 0)
    density = torch.exp(-ratio.square() / 2) / math.sqrt(2 * math.pi)
    expected = bias - weight * density / below.clamp_min(1e-3)
    return torch.where(below > 1e-3, expected, -3 * weight).to(norm.weight)


def norm_before(network: nn.Module, tap: TapLike) -> str:
    """Return the path of the BN a tap follows.

    That is the tap's own module if it is a BN whose output is read. For the input of another module (an activation) it
    is, among the BNs of the same block, shortcuts aside: the last one registered before the module; or, where the tap
    names a call c since the block calls the module several times (one ReLU for all its layers), the BN number c.

    Args:
        network (nn.Module): Where the tap stands.
        tap (TapLike): The tap.

    Raises:
        KeyError: The tap's module does not exist.
        ValueError: No BN is found by these rules.
    """
    module = get_module(network, tap.path)
    if isinstance(module, _BatchNorm) and tap.read == 'output':
        return tap.path
    prefix = tap.path.rpartition('.')[0]
    block = network.get_submodule(prefix)
    names = list(dict(block.named_modules(prefix=prefix)))
    by_call = tap.call is not None and not isinstance(block, nn.Sequential)  # which calls each of its modules once
    norms = [
        name
        for name in (names if by_call else names[: names.index(tap.path)])
        if isinstance(network.get_submodule(name), _BatchNorm)
        and not set(name.removeprefix(prefix).split('.')) & set(_SHORTCUTS)
    ]
    index = tap.call if by_call else -1
    if tap.read != 'input' or not -len(norms) <= index < len(norms):
        raise ValueError(
            f'OFDTeacherConnector: no BN found for tap {tap}, which should be the output of a BN or the input of the '
            'activation behind it; norms=[…] names the BNs'
        )
    return norms[index]
