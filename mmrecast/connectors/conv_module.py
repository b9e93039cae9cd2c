"""A convolution, with norm and activation where asked for, as a connector."""

from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmrecast.registry import MODELS

__all__ = ['ConvModuleConnector']


@MODELS.register_module()
class ConvModuleConnector(nn.Module):
    """Convolution, norm and activation (mmcv's ``ConvModule``) between a tap and a loss: a FitNets regressor.

    Names and defaults of the arguments are those of MMRazor's connector of the same name.

    Args:
        in_channel (int): Channels of the feature.
        out_channel (int): Channels of the result.
        kernel_size (int | tuple[int, int]): Defaults to 1.
        stride (int | tuple[int, int]): Defaults to 1.
        padding (int | tuple[int, int]): Zeros on every side. Defaults to 0.
        dilation (int | tuple[int, int]): Defaults to 1.
        groups (int): Defaults to 1.
        bias (bool | str): ``'auto'`` has a bias only where there is no norm. Defaults to ``'auto'``.
        conv_cfg (dict | None): mmcv's convolution layer. Defaults to None: ``nn.Conv2d``.
        norm_cfg (dict | None): mmcv's norm layer (``dict(type='BN')``). Defaults to None: no norm.
        act_cfg (dict | None): mmcv's activation; None makes the connector linear.
            Defaults to ``dict(type='ReLU')``.
        inplace (bool): Whether the activation works in place. Defaults to True.
        with_spectral_norm (bool): Spectral norm on the convolution's weight. Defaults to False.
        padding_mode (str): 'zeros', 'circular' or 'reflect'. Defaults to 'zeros'.
        order (tuple[str, str, str]): Of convolution, norm and activation. Defaults to ``('conv', 'norm', 'act')``.
    """

    def __init__(
        self,
        in_channel: int,
        out_channel: int,
        kernel_size: int | tuple[int, int] = 1,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool | str = 'auto',
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = dict(type='ReLU'),  # noqa: B006 - mmcv copies it
        inplace: bool = True,
        with_spectral_norm: bool = False,
        padding_mode: str = 'zeros',
        order: tuple[str, str, str] = ('conv', 'norm', 'act'),
    ) -> None:
        super().__init__()
        self.in_channel = in_channel
        self.conv_module = ConvModule(
            in_channel,
            out_channel,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            conv_cfg=conv_cfg,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
            inplace=inplace,
            with_spectral_norm=with_spectral_norm,
            padding_mode=padding_mode,
            order=tuple(order),
        )

    def forward(self, feature: Tensor) -> Tensor:
        """Map (N, in_channel, H, W) to (N, out_channel, H', W').

        Raises:
            ValueError: The feature has other dimensions or channels.
        """
        if feature.dim() != 4 or feature.shape[1] != self.in_channel:
            raise ValueError(f'ConvModuleConnector: (N, {self.in_channel}, H, W) expected, got {tuple(feature.shape)}')
        return self.conv_module(feature)
