"""Factor Transfer's connectors: the teacher's paraphraser and the student's translator."""

import math

from torch import Tensor, nn

from mmrecast.registry import MODELS

__all__ = ['Paraphraser', 'Translator']


@MODELS.register_module()
class Paraphraser(nn.Module):
    """A convolutional autoencoder of the teacher's feature; its code is the factor.

    Three 3x3 convolutions (m → m → km → km) and three transposed ones back, LeakyReLU 0.1 after each (Kim, Park and
    Kwak, NeurIPS 2018, and their code). ``forward`` gives the factor, ``reconstruct`` the reconstruction it is trained
    on; there is no argument ``phase`` as in MMRazor, since the stage of the schedule says which of the two is wanted.
    Parameters have MMRazor's names.

    Args:
        in_channel (int): m, channels of the teacher's feature; inferred if left out.
        out_channel (int | None): Channels of the factor. None, or left out: ``paraphrase_rate`` times ``in_channel``.
        use_bn (bool): BN in front of every activation. Defaults to False.
        paraphrase_rate (float): k, used where ``out_channel`` is None. Defaults to 0.5.

    Raises:
        ValueError: A number of channels or the rate is not positive.
    """

    def __init__(
        self, in_channel: int, out_channel: int | None, use_bn: bool = False, paraphrase_rate: float = 0.5
    ) -> None:
        super().__init__()
        if not paraphrase_rate > 0:
            raise ValueError(f'Paraphraser: paraphrase_rate must be a positive number, got {paraphrase_rate!r}')
        if out_channel is None:
            out_channel = max(1, math.floor(in_channel * paraphrase_rate + 0.5))
        _check_channels(self, in_channel, out_channel)
        self.in_channel = in_channel
        self.encoder = _layers(nn.Conv2d, (in_channel, in_channel, out_channel, out_channel), use_bn)
        self.decoder = _layers(nn.ConvTranspose2d, (out_channel, out_channel, in_channel, in_channel), use_bn)

    @classmethod
    def infer(cls, own: tuple[int, ...], other: tuple[int, ...] | None) -> dict:
        """Let ``out_channel`` follow from the rate where a config leaves it out."""
        return dict(out_channel=None)

    def forward(self, feature: Tensor) -> Tensor:
        """Map the feature (N, in_channel, H, W) to the factor (N, out_channel, H, W).

        Raises:
            ValueError: The feature has other dimensions or channels.
        """
        _check_feature(self, feature)
        return self.encoder(feature)

    def reconstruct(self, feature: Tensor) -> Tensor:
        """Map the feature (N, in_channel, H, W) to its reconstruction of the same shape.

        Raises:
            ValueError: The feature has other dimensions or channels.
        """
        return self.decoder(self(feature))


@MODELS.register_module()
class Translator(nn.Module):
    """The paraphraser's encoder half on the student's feature (Kim, Park and Kwak, NeurIPS 2018).

    BN is MMRazor's default; the paper's translator has none. Parameters have MMRazor's names.

    Args:
        in_channel (int): Channels of the student's feature; inferred if left out.
        out_channel (int): Channels of the factor; inferred if left out.
        use_bn (bool): BN in front of every activation. Defaults to True.

    Raises:
        ValueError: A number of channels is not positive.
    """

    def __init__(self, in_channel: int, out_channel: int, use_bn: bool = True) -> None:
        super().__init__()
        _check_channels(self, in_channel, out_channel)
        self.in_channel = in_channel
        self.encoder = _layers(nn.Conv2d, (in_channel, in_channel, out_channel, out_channel), use_bn)

    def forward(self, feature: Tensor) -> Tensor:
        """Map the feature (N, in_channel, H, W) to the factor (N, out_channel, H, W).

        Raises:
            ValueError: The feature has other dimensions or channels.
        """
        _check_feature(self, feature)
        return self.encoder(feature)


def _layers(convolution: type[nn.Module], widths: tuple[int, ...], use_bn: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in zip(widths[:-1], widths[1:], strict=True):
        norm = nn.BatchNorm2d(after) if use_bn else nn.Identity()  # which keeps the numbering of MMRazor's weights
        layers += [convolution(before, after, 3, 1, 1), norm, nn.LeakyReLU(0.1, inplace=True)]
    return nn.Sequential(*layers)


def _check_channels(connector: nn.Module, *channels: int) -> None:
    if not all(isinstance(n, int) and n > 0 for n in channels):
        raise ValueError(f'{type(connector).__name__}: positive numbers of channels expected, got {channels}')


def _check_feature(connector: Paraphraser | Translator, feature: Tensor) -> None:
    if feature.dim() != 4 or feature.shape[1] != connector.in_channel:
        raise ValueError(
            f'{type(connector).__name__}: (N, {connector.in_channel}, H, W) expected, got {tuple(feature.shape)}'
        )
