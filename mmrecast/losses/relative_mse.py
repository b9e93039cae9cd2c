"""Mean squared error in units of the teacher's variance."""

from torch import Tensor, nn

from mmrecast.losses.checks import check_positive, check_same_shape
from mmrecast.registry import MODELS
from mmrecast.utils.names import nearest

__all__ = ['RelativeMSELoss']

_UNITS = ('tensor', 'channel')


@MODELS.register_module()
class RelativeMSELoss(nn.Module):
    """Σ(s − t)² / Σ(t − mean_c t)², the means of the batch; losses of different blocks have one scale then.

    By ``'channel'`` every channel has its own quotient, and the loss is their mean: quiet channels count as loud ones.
    Adam does not see a constant factor, so that by ``'tensor'`` it trains nearly as with :class:`MSELoss`.

    Args:
        unit (str): ``'tensor'``, one quotient, or ``'channel'``. Defaults to ``'tensor'``.
        eps (float): Added to a variance, as a share of the mean variance of a channel. Defaults to 1e-3.
        loss_weight (float): What the quotient is multiplied with. Defaults to 1.0.

    Raises:
        ValueError: ``unit`` is unknown, or ``eps`` is not positive.
    """

    def __init__(self, unit: str = 'tensor', eps: float = 1e-3, loss_weight: float = 1.0) -> None:
        super().__init__()
        if unit not in _UNITS:
            raise ValueError(
                f'RelativeMSELoss: unit must be tensor or channel, got {unit!r}{nearest(str(unit), _UNITS)}'
            )
        check_positive(self, 'eps', eps)
        self.unit, self.eps, self.loss_weight = unit, eps, loss_weight

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        """Return the weighted loss, a scalar.

        Args:
            s_feature (Tensor): The student's tensor, (N, C, …).
            t_feature (Tensor): The teacher's tensor, of the same shape.

        Raises:
            ValueError: The shapes differ: nothing is broadcast.
        """
        check_same_shape(self, s_feature, t_feature)
        s, t = (x.float().transpose(0, 1).flatten(1) for x in (s_feature, t_feature))  # (C, N…)
        error, variance = (s - t).square().mean(1), t.detach().var(1, correction=0)  # (C,)
        floor = self.eps * variance.mean().clamp_min(1e-12)
        if self.unit == 'channel':
            return self.loss_weight * (error / (variance + floor)).mean()
        return self.loss_weight * error.mean() / (variance.mean() + floor)
