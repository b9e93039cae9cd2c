"""Another network's way of seeing the same images: its own normalisation and size."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ['InputAdapter']


class InputAdapter(nn.Module):
    """Turn images normalised for one network into what another expects.

    Args:
        mean, std (Sequence[float], optional): Per channel, on the scale 0..255, of the network behind; both or neither.
            Defaults to None: as the images are.
        size (int | tuple[int, int], optional): Height and width it expects; images are resized bilinearly with
            antialiasing. Defaults to None: as they are.
        from_mean, from_std (Sequence[float], optional): How the images have been normalised. Defaults to None: not at
            all.

    Raises:
        ValueError: Lengths differ, a deviation is not positive, or a size is not.
    """

    def __init__(
        self,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        size: int | Sequence[int] | None = None,
        from_mean: Sequence[float] | None = None,
        from_std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        for a, b, what in ((mean, std, 'mean and std'), (from_mean, from_std, 'from_mean and from_std')):
            if (a is None) != (b is None) or (a is not None and len(a) != len(b)):
                raise ValueError(f'input: {what} go together and have one value per channel, got {a} and {b}')
            if b is not None and not all(value > 0 for value in b):
                raise ValueError(f'input: {what}: a deviation must be positive, got {list(b)}')
        sizes = (size, size) if isinstance(size, int) else size
        if sizes is not None and (len(sizes) != 2 or not all(isinstance(n, int) and n > 0 for n in sizes)):
            raise ValueError(f'input: size is a positive whole number or two of them, got {size!r}')
        self.size = None if sizes is None else tuple(sizes)
        self.own = None if mean is None else (tuple(mean), tuple(std))
        self.register_buffer('scale', None, persistent=False)
        self.register_buffer('shift', None, persistent=False)
        if from_mean is not None or mean is not None:
            self.normalised_by(from_mean, from_std)

    def normalised_by(self, mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
        """Say how the images come normalised; None for not at all.

        Raises:
            ValueError: They have another number of channels than this network's own.
        """
        if self.own is None:
            return
        own_mean, own_std = (torch.tensor(values, dtype=torch.float64) for values in self.own)
        mean = torch.zeros_like(own_mean) if mean is None else torch.tensor(list(mean), dtype=torch.float64)
        std = torch.ones_like(own_std) if std is None else torch.tensor(list(std), dtype=torch.float64)
        if len(mean) != len(own_mean):
            raise ValueError(f'input: {len(own_mean)} channels, but the images have {len(mean)}')
        # (x·std + mean − own_mean) / own_std
        self.scale = (std / own_std).float().view(-1, 1, 1)
        self.shift = ((mean - own_mean) / own_std).float().view(-1, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H', W')."""
        if self.scale is not None:
            images = images * self.scale + self.shift
        if self.size is not None and images.shape[-2:] != self.size:
            images = F.interpolate(images, self.size, mode='bilinear', align_corners=False, antialias=True)
        return images
