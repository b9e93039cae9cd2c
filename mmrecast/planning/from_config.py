"""A planner for the teacher, images and targets of a recasting's config, and the config of what it plans."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader

from mmrecast.algorithms.base import Distiller
from mmrecast.engine.batches import evenly_spaced
from mmrecast.planning.candidates import OF_THE_NETWORK, TARGETS
from mmrecast.planning.config import config_text
from mmrecast.planning.planner import Planned, Planner
from mmrecast.surgery.plan import sources_of


def check_recasting(cfg: Config, name: str | Path) -> None:
    """Refuse the config of another method.

    Raises:
        ValueError: It is not one of ``Recasting``.
    """
    if cfg.model.get('type') not in ('Recasting', 'mmrecast.Recasting'):
        raise ValueError(f'{name} trains {cfg.model.get("type")}: a plan is for the config of a Recasting')


def planner_for(
    cfg: Config, images: int = 256, train_images: int = 0, data_root: str | None = None, **options
) -> Planner:
    """Read the teacher and images of a config, and price what its blocks may become.

    Args:
        cfg (Config): A recasting's; it is left as it is. Its recipe says which blocks there have to be, and its targets
            are tried besides those of `candidates_of`. With ``block_input='teacher'`` no width changes.
        images (int): Training images for the closed forms, and as many others to judge by. Defaults to 256.
        train_images (int): Training images that what is chosen is trained on alone, besides those. Defaults to 0.
        data_root (str, optional): Where the data lies; it replaces the config's.
        **options: Of :class:`Planner`.

    Raises:
        ValueError: The data cannot be used, no image is left to train on, or as :class:`Planner`.
    """
    model = cfg.model
    distiller = Distiller(model.teacher, model.get('teacher_ckpt'), _preprocessor_of(cfg))
    loader = _loader(cfg.train_dataloader, data_root)
    batches = _preprocessed(distiller, loader, 2 * images)
    trained_on = _mixed(_preprocessed(distiller, loader, train_images, 2 * images), loader.batch_size)
    if train_images and not trained_on:
        raise ValueError(f'no image is left to train on besides the {2 * images} that are solved on and judged by')
    if model.get('block_input') == 'teacher':
        options['ratios'] = (1.0,)
    options.setdefault('targets', targets_with(model.recipe))
    return Planner(
        distiller.teacher, distiller.input_shape, [x[::2] for x in batches], [x[1::2] for x in batches],
        blocks=sources_of(model.recipe), trained_on=trained_on,
        block_loss=model.get('block_loss', dict(type='MSELoss')), **options,
    )  # fmt: skip


def targets_with(recipe: Sequence[Mapping]) -> list[dict]:
    """Return the targets that are always tried, and those of a recipe, but for their widths and strides."""
    found = [dict(target) for target in TARGETS]
    for rule in recipe if isinstance(recipe, Sequence) else [recipe]:
        target = rule['target'] if isinstance(rule['target'], Mapping) else dict(type=rule['target'])
        plain = {key: value for key, value in target.items() if key not in OF_THE_NETWORK}
        plain['type'] = str(plain['type']).removeprefix('mmrecast.')
        if plain not in found:
            found.append(plain)
    return found


def labelled_images(cfg: Config, images: int, data_root: str | None = None) -> list[tuple[Tensor, Tensor]]:
    """Return batches of (images (N, C, H, W) as the teacher takes them, classes (N,)) of a config's validation data.

    Args:
        cfg (Config): A recasting's.
        images (int): How many, evenly spaced.
        data_root (str, optional): Where the data lies; it replaces the config's.

    Raises:
        ValueError: The config has no validation data, or they have no labels.
    """
    if cfg.get('val_dataloader') is None:
        raise ValueError('the config has no val_dataloader: accuracy cannot be measured')
    preprocessor = Distiller(None, None, _preprocessor_of(cfg)).data_preprocessor
    found = []
    for data in evenly_spaced(_loader(cfg.val_dataloader, data_root), images):
        batch = preprocessor(data, False)
        if not isinstance(batch['data_samples'], dict) or batch['data_samples'].get('gt_label') is None:
            raise ValueError('the validation data have no labels (gt_label): accuracy cannot be measured')
        found.append((batch['inputs'], batch['data_samples']['gt_label']))
    return found


def planned_config(
    planner: Planner, plan: Planned, cfg: Config, base: str | Path, folder: str | Path, about: str, warm: bool = True
) -> str:
    """Return the text of the config of a plan, see `config_text`.

    Args:
        planner (Planner): Whose plan it is.
        plan (Planned): The plan.
        cfg (Config): The config that the planner was made for.
        base (str | Path): Where that lies.
        folder (str | Path): Where the text is to lie.
        about (str): A line on the plan.
        warm (bool): Whether blocks that were trained alone begin the recasting. Defaults to True.
    """
    blocks = list(zip(planner.chain.blocks, plan.choice.options, strict=True))
    kept = [block.path for block, option in blocks if option.what.out_channels == block.out_shape[0]]
    files = {block.path: found.file for block, option in blocks if warm and (found := planner.start_of(option))}
    return config_text(cfg, base, folder, plan.recipe, kept, planner.chain.paths, files, about)


def _loader(loader: dict, data_root: str | None) -> DataLoader:
    loader = copy.deepcopy(loader)
    if data_root is not None:
        loader.dataset.data_root = data_root
    return Runner.build_dataloader(loader)


def _preprocessor_of(cfg: Config) -> dict | None:
    return cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor')


def _preprocessed(distiller: Distiller, loader: DataLoader, images: int, besides: int = 0) -> list[Tensor]:
    batches = evenly_spaced(loader, images, besides)
    return [distiller.data_preprocessor(data, False)['inputs'] for data in batches]


def _mixed(batches: Sequence[Tensor], size: int | None) -> list[Tensor]:
    """Return the images of batches (N, C, H, W) in a random order, always the same, in batches of ``size``."""
    if not batches:
        return []
    images = torch.cat(list(batches))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return list(images[order].split(size or len(batches[0])))
