"""Generators: from noise to images that a teacher is asked about instead of its training data."""

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmrecast.registry import MODELS

__all__ = ['DAFLGenerator', 'ZSKTGenerator']


class Generator(BaseModule):
    """Noise → images: a linear layer, then two times nearest upsampling, convolution, BatchNorm and leaky ReLU.

    A generator of one's own needs ``latent_dim`` and a ``forward`` from noise (N, latent_dim) to images (N, C, H, W) as
    the data preprocessor leaves them, normalised.

    Args:
        img_size (int): Height and width of the images, a multiple of ``scale_factor ** 2``.
        latent_dim (int): Length of a noise vector.
        hidden_channels (int): Channels of the first map; the last one has half as many.
        scale_factor (int): By how much each of the two upsamplings enlarges the map. Defaults to 2.
        init_cfg (dict | list[dict] | None): mmengine's initialisation, applied by ``init_weights()``. Defaults to None:
            PyTorch's own.
        out_channels (int): Channels of the images. Defaults to 3.

    Raises:
        ValueError: A number is not positive, or ``img_size`` is no such multiple.
    """

    def __init__(
        self,
        img_size: int,
        latent_dim: int,
        hidden_channels: int,
        scale_factor: int = 2,
        init_cfg: dict | list[dict] | None = None,
        out_channels: int = 3,
    ) -> None:
        super().__init__(init_cfg)
        given = dict(img_size=img_size, latent_dim=latent_dim, hidden_channels=hidden_channels)
        given |= dict(scale_factor=scale_factor, out_channels=out_channels)
        for name, value in given.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1 + (name == 'hidden_channels'):
                least = 1 + (name == 'hidden_channels')
                raise ValueError(
                    f'{type(self).__name__}: {name} must be a whole number of at least {least}, got {value!r}'
                )
        if img_size % scale_factor**2:
            raise ValueError(
                f'{type(self).__name__}: img_size must be a multiple of scale_factor ** 2 = {scale_factor**2}, '
                f'got {img_size}'
            )
        self.img_size, self.latent_dim, self.hidden_channels = img_size, latent_dim, hidden_channels
        self.scale_factor, self.out_channels = scale_factor, out_channels
        self.init_size = img_size // scale_factor**2

    def latent(self, data: Tensor | None, batch_size: int) -> Tensor:
        """Return the noise (N, latent_dim) on the generator's device, drawn from N(0, 1) where ``data`` is None.

        Raises:
            ValueError: ``data`` is of another shape, or ``batch_size`` is smaller than 1.
        """
        weight = next(self.parameters())
        if data is None:
            if batch_size < 1:
                raise ValueError(f'{type(self).__name__}: batch_size must be at least 1, got {batch_size}')
            # On the CPU, as in MMRazor: one seed gives the same noise on every device.
            return torch.randn(batch_size, self.latent_dim).to(weight)
        if data.dim() != 2 or data.shape[1] != self.latent_dim:
            raise ValueError(f'{type(self).__name__}: noise (N, {self.latent_dim}) expected, got {tuple(data.shape)}')
        return data.to(weight.device)


@MODELS.register_module()
class DAFLGenerator(Generator):
    """The generator of DAFL (Chen et al., ICCV 2019) and DFAD; images end in tanh and a BatchNorm without weights.

    Name, arguments and numbers are MMRazor's; ``out_channels``, which is 3 there, is an addition.

    Args:
        img_size, latent_dim, hidden_channels, scale_factor: See :class:`Generator`.
        bn_eps (float): ε of the two BatchNorms behind the convolutions. Defaults to 0.8, a slip of the authors that
            their figures have; DFAD takes 1e-5.
        leaky_slope (float): Slope of the leaky ReLUs. Defaults to 0.2.
        init_cfg, out_channels: See :class:`Generator`.

    Raises:
        ValueError: See :class:`Generator`.

    Examples:
        >>> DAFLGenerator(img_size=32, latent_dim=100, hidden_channels=128)(batch_size=4).shape
        torch.Size([4, 3, 32, 32])
    """

    def __init__(
        self,
        img_size: int,
        latent_dim: int,
        hidden_channels: int,
        scale_factor: int = 2,
        bn_eps: float = 0.8,
        leaky_slope: float = 0.2,
        init_cfg: dict | list[dict] | None = None,
        out_channels: int = 3,
    ) -> None:
        super().__init__(img_size, latent_dim, hidden_channels, scale_factor, init_cfg, out_channels)
        width, half = hidden_channels, hidden_channels // 2
        self.linear = nn.Linear(latent_dim, width * self.init_size**2)
        self.bn1 = nn.BatchNorm2d(width)
        self.upsample = nn.Upsample(scale_factor=scale_factor)
        self.conv_blocks1 = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width, eps=bn_eps),
            nn.LeakyReLU(leaky_slope, inplace=True),
        )
        self.conv_blocks2 = nn.Sequential(
            nn.Conv2d(width, half, 3, padding=1),
            nn.BatchNorm2d(half, eps=bn_eps),
            nn.LeakyReLU(leaky_slope, inplace=True),
            nn.Conv2d(half, out_channels, 3, padding=1),
            nn.Tanh(),
            nn.BatchNorm2d(out_channels, affine=False),
        )

    def forward(self, data: Tensor | None = None, batch_size: int = 1) -> Tensor:
        """Map noise (N, latent_dim), drawn for ``batch_size`` images if None, to (N, out_channels, H, W)."""
        x = self.linear(self.latent(data, batch_size))
        x = self.bn1(x.view(-1, self.hidden_channels, self.init_size, self.init_size))
        return self.conv_blocks2(self.upsample(self.conv_blocks1(self.upsample(x))))


@MODELS.register_module()
class ZSKTGenerator(Generator):
    """The generator of zero-shot knowledge transfer (Micaelli and Storkey, NeurIPS 2019); images end in a BatchNorm.

    Name, arguments and numbers are MMRazor's; ``out_channels``, which is 3 there, is an addition.

    Args:
        img_size, latent_dim, hidden_channels, scale_factor: See :class:`Generator`.
        leaky_slope (float): Slope of the leaky ReLUs. Defaults to 0.2.
        init_cfg, out_channels: See :class:`Generator`.

    Raises:
        ValueError: See :class:`Generator`.
    """

    def __init__(
        self,
        img_size: int,
        latent_dim: int,
        hidden_channels: int,
        scale_factor: int = 2,
        leaky_slope: float = 0.2,
        init_cfg: dict | list[dict] | None = None,
        out_channels: int = 3,
    ) -> None:
        super().__init__(img_size, latent_dim, hidden_channels, scale_factor, init_cfg, out_channels)
        width, half = hidden_channels, hidden_channels // 2
        self.layers = nn.Sequential(
            nn.Linear(latent_dim, width * self.init_size**2),
            nn.Unflatten(1, (width, self.init_size, self.init_size)),
            nn.BatchNorm2d(width),
            nn.Upsample(scale_factor=scale_factor),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(leaky_slope, inplace=True),
            nn.Upsample(scale_factor=scale_factor),
            nn.Conv2d(width, half, 3, padding=1),
            nn.BatchNorm2d(half),
            nn.LeakyReLU(leaky_slope, inplace=True),
            nn.Conv2d(half, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, data: Tensor | None = None, batch_size: int = 1) -> Tensor:
        """Map noise (N, latent_dim), drawn for ``batch_size`` images if None, to (N, out_channels, H, W)."""
        return self.layers(self.latent(data, batch_size))
