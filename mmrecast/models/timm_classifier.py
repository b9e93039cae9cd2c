"""timm's classifiers by name."""

from types import ModuleType

from torch import nn

from mmrecast.models.load import load_weights
from mmrecast.models.torchvision_classifier import names_file
from mmrecast.registry import MODELS
from mmrecast.utils.names import nearest

__all__ = ['TimmClassifier']

# Arguments of timm.create_model that begin so would load a file: student files must not be able to.
_REFUSED = ('pretrained', 'checkpoint', 'cache_dir')


@MODELS.register_module()
def TimmClassifier(
    name: str, weights: str | None = None, num_classes: int = 1000, in_channels: int = 3, **kwargs
) -> nn.Module:
    """Return timm's plain network, in which paths are timm's own (``layer1.0``).

    Weights of timm expect the ``mean``, ``std`` (0..1, RGB) and ``input_size`` that stand in the network's
    ``pretrained_cfg``: they are not always torchvision's.

    Args:
        name (str): A network of ``timm.list_models()`` (``'resnet50'``). Nothing is fetched from a hub by its name.
        weights (str | None): Path of a checkpoint (``*.pt``, ``*.pth``), ``'DEFAULT'``, or one of timm's own names
            (``'a1_in1k'``), both of which download it. Defaults to None: timm's initialisation.
        num_classes (int): Number of classes. Defaults to 1000.
        in_channels (int): Channels of the image; timm fits its own weights to another number. Defaults to 3.
        **kwargs: Further arguments of timm's network (``drop_path_rate``).

    Raises:
        ModuleNotFoundError: timm is not installed.
        ValueError: timm has no such network or weights, the weights do not fit, or an argument would load others.
        FileNotFoundError: There is no such checkpoint.
    """
    timm = _timm()
    for key in kwargs:
        if key.startswith(_REFUSED):
            raise ValueError(f'TimmClassifier takes no argument {key!r}: weights=… names what is loaded')
    _check_name(timm, name)
    if in_channels != 3:
        kwargs['in_chans'] = in_channels
    offered = timm.models.get_arch_pretrained_cfgs(name)
    published = [full.partition('.')[2] for full, config in offered.items() if config.has_weights]
    if weights is None or names_file(weights, name, published):
        network = timm.create_model(name, num_classes=num_classes, **kwargs)
        return network if weights is None else load_weights(network, weights)
    full_name = name if weights == 'DEFAULT' else f'{name}.{weights}'
    classes = timm.get_pretrained_cfg(full_name).num_classes
    if classes != num_classes:  # timm would draw a new classifier without a word
        raise ValueError(f"timm's weights {weights!r} of {name} have {classes} classes, got num_classes={num_classes}")
    return timm.create_model(full_name, pretrained=True, num_classes=num_classes, **kwargs)


def _timm() -> ModuleType:
    try:
        import timm  # takes seconds, and is needed by those alone who name such a network
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('TimmClassifier needs timm: pip install timm') from error
    return timm


def _check_name(timm: ModuleType, name: str) -> None:
    """Refuse all but the name of a network that timm itself defines.

    Raises:
        ValueError: ``name`` is another, or the address of a hub or folder, from which timm would read.
    """
    if not isinstance(name, str) or any(sign in name for sign in ':/\\'):
        raise ValueError(f'TimmClassifier takes a name of timm.list_models(), no hub, folder or file, got {name!r}')
    arch, dot, tag = name.partition('.')
    known = timm.list_models()
    if arch not in known:
        raise ValueError(f'timm has no classifier {name!r}{nearest(arch, known)}')
    if dot:
        raise ValueError(f'{name!r} names weights, too: write name={arch!r}, weights={tag!r}')
