"""Describers: what surgery must know of a source block's class to rebuild it for another input width.

A describer is a function from a module to a :class:`Description`, registered under the qualified names of the classes
it understands (subclasses included), so that no library has to be imported to be understood::

    @describes('my_package.nets.MyBlock')
    def my_block(block):
        return Description('basic', stride=block.conv1.stride[0], mid_channels=block.conv1.out_channels,
                           reads_input=('conv1',), shortcut='downsample')
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Description:
    """How a block is made.

    Args:
        kind (str): 'basic', 'bottleneck', 'conv', 'depthwise_separable', 'dense', ...
        stride (int): Spatial stride of the whole block.
        mid_channels (int, optional): Width of its inner 3x3 convolution.
        reads_input (tuple[str]): Attributes of the convolutions that read the block's input.
        shortcut (str, optional): Attribute of the shortcut's projection; ``None`` or ``nn.Identity`` stands there where
            the shortcut is the identity. Defaults to no shortcut.
        kernel_size (int, optional): Kernel of a block that is one convolution. Defaults to None.
        padding (int, optional): Its padding. Defaults to None.
        rebuild (Callable, optional): ``(block, in_channels) -> block`` where changing the convolutions named above is
            not enough. Defaults to None.
    """

    kind: str
    stride: int = 1
    mid_channels: int | None = None
    reads_input: tuple[str, ...] = ()
    shortcut: str | None = None
    kernel_size: int | None = None
    padding: int | None = None
    rebuild: Callable[[nn.Module, int], nn.Module] | None = None


_DESCRIBERS: dict[str, Callable[[nn.Module], Description]] = {}


def describes(*class_names: str) -> Callable:
    """Register the decorated describer for the classes of these qualified names (``package.module.Class``)."""

    def register(function: Callable[[nn.Module], Description]) -> Callable[[nn.Module], Description]:
        for name in class_names:
            _DESCRIBERS[name] = function
        return function

    return register


def describe(module: nn.Module) -> Description | None:
    """Return what is known of ``module``, or None, which a describer may return, too."""
    for cls in type(module).__mro__:
        describer = _DESCRIBERS.get(f'{cls.__module__}.{cls.__qualname__}')
        if describer is not None:
            try:
                return describer(module)
            except AttributeError:  # a subclass made of other parts (mmpretrain's Bottle2neck has no conv2)
                return None
    return None


def rebuild(block: nn.Module, in_channels: int) -> nn.Module:
    """Return a copy of ``block`` that reads ``in_channels`` channels; its output keeps its shape.

    Convolutions that read the input are new ones (their weights are not those of ``block``). A shortcut that was the
    identity becomes a projection: a 1x1 convolution and a BatchNorm.

    Raises:
        ValueError: No describer is registered for the block's class.
    """
    description = describe(block)
    if description is None:
        raise ValueError(
            f'{type(block).__name__} cannot be rebuilt for {in_channels} input channels: register a describer for '
            f'{type(block).__module__}.{type(block).__qualname__} (docs/extending.md) or keep the width before it'
        )
    if description.rebuild is not None:
        return description.rebuild(block, in_channels)
    block = copy.deepcopy(block)
    for name in description.reads_input:
        block.set_submodule(name, refit(block.get_submodule(name), in_channels))
    if description.shortcut is not None:
        _rebuild_shortcut(block, description, in_channels)
    return block


def refit(layer: nn.Module, in_channels: int) -> nn.Module:
    """Return a new layer like ``layer`` (convolution, fully connected or normalisation) for another input width.

    For a fully connected layer behind a flattened map ``in_channels`` is the number of input features.

    Raises:
        ValueError: The layer is of no such kind, its class takes other arguments, or its groups do not divide
            ``in_channels``.
    """
    kind = type(layer).__name__
    if isinstance(layer, nn.Linear):
        kw = dict(in_features=in_channels, out_features=layer.out_features, bias=layer.bias is not None)
    elif isinstance(layer, nn.modules.batchnorm._NormBase):
        kw = {k: getattr(layer, k) for k in ('eps', 'momentum', 'affine', 'track_running_stats')}
        kw['num_features'] = in_channels
    elif isinstance(layer, nn.Conv2d):
        if in_channels % layer.groups:
            raise ValueError(f'{kind} with {layer.groups} groups cannot read {in_channels} channels')
        kw = {k: getattr(layer, k) for k in ('out_channels', 'kernel_size', 'stride', 'padding', 'dilation')}
        kw |= dict(in_channels=in_channels, groups=layer.groups, bias=layer.bias is not None)
        if layer.padding_mode != 'zeros':
            kw['padding_mode'] = layer.padding_mode
    else:
        raise ValueError(f'{kind} cannot be rebuilt for {in_channels} input channels')
    try:
        new = type(layer)(**kw)  # of the same class: a subclass may compute something else
    except TypeError as error:
        raise ValueError(f'{kind} cannot be rebuilt for {in_channels} input channels: {error}') from error
    tensors = [t for t in (*layer.parameters(), *layer.buffers()) if t.is_floating_point()]
    return (new.to(tensors[0].device, tensors[0].dtype) if tensors else new).train(layer.training)


def _rebuild_shortcut(block: nn.Module, description: Description, in_channels: int) -> None:
    projection = getattr(block, description.shortcut)
    convs = [] if projection is None else [m for m in projection.modules() if isinstance(m, nn.Conv2d)]
    if convs:
        path = next(name for name, module in projection.named_modules() if module is convs[0])
        if path:
            projection.set_submodule(path, refit(convs[0], in_channels))
        else:
            setattr(block, description.shortcut, refit(convs[0], in_channels))
        return
    last = [m for m in block.modules() if isinstance(m, nn.Conv2d)][-1]
    if in_channels == last.out_channels and description.stride == 1:
        setattr(block, description.shortcut, nn.Identity().train(block.training))
        return
    projection = nn.Sequential(
        nn.Conv2d(in_channels, last.out_channels, 1, description.stride, bias=False),
        nn.BatchNorm2d(last.out_channels),
    )
    setattr(
        block,
        description.shortcut,
        projection.to(last.weight.device, last.weight.dtype).train(block.training),
    )


@describes(
    'torchvision.models.resnet.BasicBlock',
    'mmpretrain.models.backbones.resnet.BasicBlock',
    'timm.models.resnet.BasicBlock',
)
def _residual_basic(block: nn.Module) -> Description:
    return Description(
        'basic',
        block.conv1.stride[0] * block.conv2.stride[0],
        block.conv1.out_channels,
        ('conv1',),
        'downsample',
    )


@describes(
    'torchvision.models.resnet.Bottleneck',
    'mmpretrain.models.backbones.resnet.Bottleneck',
    'timm.models.resnet.Bottleneck',
)
def _residual_bottleneck(block: nn.Module) -> Description:
    stride = block.conv1.stride[0] * block.conv2.stride[0]
    return Description('bottleneck', stride, block.conv2.out_channels, ('conv1',), 'downsample')


@describes('mmrecast.blocks.basic_block.BasicBlock')
def _basic_block(block: nn.Module) -> Description:
    return Description('basic', block.conv1.stride[0], block.conv1.out_channels, ('conv1',), 'shortcut')


@describes('mmrecast.blocks.bottleneck.Bottleneck')
def _bottleneck(block: nn.Module) -> Description:
    return Description('bottleneck', block.conv2.stride[0], block.conv2.out_channels, ('conv1',), 'shortcut')


@describes('mmrecast.blocks.conv_block.ConvBlock')
def _conv_block(block: nn.Module) -> Description:
    return Description('conv', block.conv.stride[0], None, ('conv',), None, *_square(block.conv))


@describes('mmcv.cnn.bricks.conv_module.ConvModule')
def _conv_module(block: nn.Module) -> Description | None:
    if block.order != ('conv', 'norm', 'act') or not isinstance(block.conv, nn.Conv2d):
        return None
    return Description('conv', block.conv.stride[0], None, ('conv',), None, *_square(block.conv))


@describes('torch.nn.modules.conv.Conv2d')
def _convolution(conv: nn.Conv2d) -> Description:
    return Description('conv', conv.stride[0], None, (), None, *_square(conv), rebuild=refit)


def _square(conv: nn.Conv2d) -> tuple[int | None, int | None]:
    """Return kernel size and padding of a plain square convolution, else (None, None)."""
    kernel, padding = conv.kernel_size, conv.padding
    plain = kernel[0] == kernel[1] and not isinstance(padding, str) and conv.padding_mode == 'zeros'
    if not plain or padding[0] != padding[1] or set(conv.dilation) != {1} or conv.stride[0] != conv.stride[1]:
        return None, None
    return kernel[0], padding[0]


@describes('mmrecast.blocks.preact_basic_block.PreActBasicBlock')
def _preact_basic_block(block: nn.Module) -> Description:
    def resized(old: nn.Module, in_channels: int) -> nn.Module:
        new, conv = copy.deepcopy(old), old.conv1
        new.bn1, new.conv1 = refit(old.bn1, in_channels), refit(conv, in_channels)
        changes = in_channels != old.conv2.out_channels or conv.stride != (1, 1)
        shortcut = nn.Conv2d(in_channels, old.conv2.out_channels, 1, conv.stride, bias=False)
        shortcut = shortcut.to(conv.weight.device, conv.weight.dtype)
        new.shortcut = (shortcut if changes else nn.Identity()).train(old.training)
        return new

    return Description('basic', block.conv1.stride[0], block.conv1.out_channels, rebuild=resized)


@describes(
    'mmrecast.blocks.dense_block.DenseBlock',
    'torchvision.models.densenet._DenseBlock',
    'mmpretrain.models.backbones.densenet.DenseBlock',
    'timm.models.densenet.DenseBlock',
)
def _dense_block(block: nn.Module) -> Description:
    def refused(old: nn.Module, in_channels: int) -> nn.Module:
        raise ValueError(
            f'a dense block hands its input on, so that it cannot be rebuilt for {in_channels} input channels with its '
            'output kept: keep the width before it, or recast it, too'
        )

    return Description('dense', rebuild=refused)


@describes('mmrecast.blocks.depthwise_separable.DepthwiseSeparable')
def _depthwise_separable(block: nn.Module) -> Description:
    def resized(old: nn.Module, in_channels: int) -> nn.Module:
        new, conv = copy.deepcopy(old), old.depthwise
        depthwise = nn.Conv2d(
            in_channels, in_channels, conv.kernel_size, conv.stride, conv.padding, groups=in_channels, bias=False
        )
        new.depthwise = depthwise.to(conv.weight.device, conv.weight.dtype).train(conv.training)
        new.bn1, new.pointwise = refit(old.bn1, in_channels), refit(old.pointwise, in_channels)
        return new

    return Description('depthwise_separable', block.depthwise.stride[0], rebuild=resized)
