"""What the losses share that compare several layers and count the later ones more."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from mmrecast.losses.checks import check_positive, check_same_shape


class LayerwiseLoss(nn.Module, ABC):
    """Base class: a distance between two maps of one shape; of a list of n layers, Σ_i decay^(n−1−i) · distance_i.

    Args:
        loss_weight (float): What the sum is multiplied with. Defaults to 1.0.
        layer_decay (float): Weight of a layer over that of the next one; the last layer counts 1. Defaults to 0.5.

    Raises:
        ValueError: ``layer_decay`` is not a positive number.
    """

    takes_list = True

    def __init__(self, loss_weight: float = 1.0, layer_decay: float = 0.5) -> None:
        super().__init__()
        check_positive(self, 'layer_decay', layer_decay)
        self.loss_weight = loss_weight
        self.layer_decay = layer_decay

    def forward(self, s_feature: Tensor | Sequence[Tensor], t_feature: Tensor | Sequence[Tensor]) -> Tensor:
        """Return the weighted loss, a scalar.

        Args:
            s_feature (Tensor | Sequence[Tensor]): The student's map (N, C, H, W), or those of several layers, from the
                first to the last.
            t_feature (Tensor | Sequence[Tensor]): The teacher's, each of the student's shape.

        Raises:
            ValueError: The shapes of a layer, or the numbers of layers, differ.
        """
        s_maps, t_maps = ([x] if isinstance(x, Tensor) else x for x in (s_feature, t_feature))
        if len(s_maps) != len(t_maps) or not s_maps:
            raise ValueError(
                f'{type(self).__name__}: as many layers of the student as of the teacher expected, '
                f'got {len(s_maps)} and {len(t_maps)}'
            )
        total = 0
        for i, (s, t) in enumerate(zip(s_maps, t_maps, strict=True)):
            check_same_shape(self, s, t)
            total = total + self.layer_decay ** (len(s_maps) - 1 - i) * self.distance(s, t.detach())
        return self.loss_weight * total

    @abstractmethod
    def distance(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        """Return the distance between two maps of one shape, a scalar."""
