"""Z-score of logits, so that their relations are compared and not their size."""

import math

from torch import Tensor, nn

from mmrecast.registry import MODELS

__all__ = ['LogitStandardization']


@MODELS.register_module()
class LogitStandardization(nn.Module):
    """(z − mean z) / std z / τ per sample (Sun et al., CVPR 2024: Algorithm 1), for both sides of a link.

    It has no parameters. The standard deviation divides by classes − 1, as the authors' code and the worked example of
    their Figure 2 do; their Algorithm 1 has 1/classes.

    Args:
        tau (float): Base temperature τ. A loss with a ``tau`` of its own divides by it anyway, and multiplies with τ²,
            as the paper does: give it there. Defaults to 1.0.

    Raises:
        ValueError: ``tau`` is not positive.

    Examples:
        >>> LogitStandardization()(torch.tensor([[-3.0, 3.0, 1.0, -1.0]]))  # the teacher of Figure 2
        tensor([[-1.1619,  1.1619,  0.3873, -0.3873]])
    """

    def __init__(self, tau: float = 1.0) -> None:
        super().__init__()
        if isinstance(tau, bool) or not isinstance(tau, int | float) or not 0 < tau < math.inf:
            raise ValueError(f'LogitStandardization: tau must be a positive number, got {tau!r}')
        self.tau = tau

    def forward(self, feature: Tensor) -> Tensor:
        """Standardise logits (N, classes); the shape stays.

        Raises:
            ValueError: They have another shape, or fewer than two classes.
        """
        if feature.dim() != 2 or feature.shape[1] < 2:
            raise ValueError(
                'LogitStandardization: logits (N, classes) of at least two classes expected, '
                f'got {tuple(feature.shape)}'
            )
        centred = feature - feature.mean(1, keepdim=True)
        return centred / (feature.std(1, keepdim=True) + 1e-7) / self.tau
