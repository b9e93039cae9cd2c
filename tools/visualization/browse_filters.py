"""Draw the first-layer filters of teacher and student side by side, redundant and ineffectual ones marked.

CONFIG gives the teacher with its teacher_ckpt (or torchvision's weights), and images where asked for; a student.pth
gives the student, and the network it was made of as its teacher. docs/filters.md has the criteria:

    python tools/visualization/browse_filters.py work_dirs/run/student.pth --teacher-ckpt checkpoints/resnet56.pth
    python tools/visualization/browse_filters.py CONFIG --student work_dirs/run/student.pth --images 200
    python tools/visualization/browse_filters.py torchvision:alexnet --teacher-ckpt IMAGENET1K_V1 --out alexnet.svg
"""

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import Runner
from torch import Tensor, nn

from mmrecast.analysis.filters import INEFFECTUAL, R2, SIMILARITY, Filter, Layer, examine, find_layer
from mmrecast.analysis.numbers import shape_text
from mmrecast.apis import load_student
from mmrecast.apis.networks import constructor_of, network_configs, networks_of
from mmrecast.engine.batches import evenly_spaced
from mmrecast.models import build_network, load_weights, network_config
from mmrecast.registry import MODELS
from mmrecast.surgery.chain import Shape
from mmrecast.surgery.student_file import build_source, is_weight_file
from mmrecast.utils.cli import KeyValues, told_in_one_line
from mmrecast.utils.config_file import read_config
from mmrecast.utils.setup_env import register_all_modules

FORMATS = ('.png', '.svg', '.pdf')
FRAMES = dict(similar=('#d95f02', '-'), combination=('#7570b3', (0, (3, 2))), ineffectual=('#666666', (0, (1, 1.5))))
"""dict: Per verdict, colour and dashes of the frame."""


@dataclass(frozen=True)
class Panel:
    """The filters of one network.

    Args:
        role (str): 'teacher' or 'student'.
        layer (Layer): Where they are, and their kernels.
        filters (tuple[Filter]): What was found about each.
    """

    role: str
    layer: Layer
    filters: tuple[Filter, ...]

    def counts(self) -> dict[str, int]:
        """Return how many filters have each verdict."""
        found = Counter(filter_.verdict for filter_ in self.filters)
        return {verdict: found[verdict] for verdict in ('kept', *FRAMES)}


# ---- networks and images --------------------------------------------------------------------------------------------


def trained_networks(args: argparse.Namespace) -> tuple[dict[str, nn.Module], Shape]:
    """Return the networks whose weights are known, by role, and the input shape.

    Raises:
        ValueError: There are no trained weights, or they do not fit.
        FileNotFoundError: A file does not exist.
    """
    checkpoint, student = args.teacher_ckpt, args.student
    if checkpoint and args.untrained:
        raise ValueError('--untrained shows the teacher without the weights of --teacher-ckpt: give one of them')
    if is_weight_file(args.config):
        if student or args.cfg_options:
            raise ValueError('--student and --cfg-options go with a config, not with a student file')
        networks = networks_of(args.config)
        found, teacher, shape = dict(student=networks.student), networks.teacher_constructor, networks.input_shape
        if checkpoint and teacher is None:
            raise ValueError(f'{args.config} was trained as it was built: it has no teacher for --teacher-ckpt')
    else:
        configs = network_configs(args.config, args.cfg_options)
        found, teacher, shape = {}, configs.teacher, configs.input_shape
        if args.config.endswith('.py'):
            cfg = read_config(args.config, args.cfg_options)
            checkpoint = checkpoint or (cfg.get('model') or {}).get('teacher_ckpt') or cfg.get('teacher_ckpt')
        if student:
            found = dict(student=load_student(student))
    network = None if teacher is None else load_teacher(teacher, checkpoint, args.untrained)
    if network is not None:
        return dict(teacher=network, **found), shape
    if not found:
        raise ValueError(f'{args.config}: no trained weights: give --teacher-ckpt or --student FILE, or --untrained')
    if teacher is not None:
        print('student alone: the teacher has no trained weights without --teacher-ckpt FILE', file=sys.stderr)
    return found, shape


def load_teacher(source: dict | str, checkpoint: str | None, initial: bool) -> nn.Module | None:
    """Return the teacher with the weights of a file or of its library, None where there are none.

    Args:
        source (dict | str): What it is built from.
        checkpoint (str, optional): A file; for the networks of a library the name of its weights, too.
        initial (bool): Whether to leave it with initial weights.
    """
    constructor = constructor_of(source)
    if initial:
        torch.manual_seed(0)
        return build_network(constructor).eval()
    if checkpoint is None:
        brings_its_own = is_weight_file(source) or network_config(source).get('weights')
        return build_source(source)[0].eval() if brings_its_own else None
    if constructor['type'].split('.')[-1] in ('TorchvisionClassifier', 'TimmClassifier'):
        return build_network(dict(constructor, weights=checkpoint)).eval()
    return load_weights(build_network(constructor), checkpoint).eval()


def images_of(args: argparse.Namespace) -> Iterator[Tensor]:
    """Yield ``args.images`` evenly spaced images of a config's validation data as its networks get them.

    Raises:
        ValueError: There is no config, or it has no data.
    """
    if not args.config.endswith('.py'):
        raise ValueError('--images needs a config, whose validation data are read: give CONFIG --student student.pth')
    cfg = read_config(args.config, args.cfg_options)
    loader = cfg.get('val_dataloader') or cfg.get('train_dataloader')
    preprocessor = (cfg.get('model') or {}).get('data_preprocessor') or cfg.get('data_preprocessor')
    if not loader or not preprocessor:
        raise ValueError(
            f'{args.config} has no {"data_preprocessor" if loader else "val_dataloader"}: leave out --images'
        )
    if args.data_root:
        loader.dataset.data_root = args.data_root
    prepare = MODELS.build(preprocessor)
    for batch in evenly_spaced(Runner.build_dataloader(loader), args.images):
        yield from prepare(batch)['inputs'].split(32)


def panel_of(role: str, network: nn.Module, shape: Shape, images: Sequence[Tensor], args: argparse.Namespace) -> Panel:
    """Judge the filters of one network.

    Raises:
        ValueError: The layer's filters cannot be shown as pictures.
    """
    layer = find_layer(network, shape, args.layer)
    if layer.weight.shape[1] not in (1, 3):
        raise ValueError(
            f'{layer.path!r} of the {role} reads {layer.weight.shape[1]} channels: '
            'only filters of 1 (grey) or 3 (colour) can be shown as pictures'
        )
    return Panel(role, layer, examine(network, layer, images, args.ineffectual, args.similarity, args.r2))


# ---- what is shown --------------------------------------------------------------------------------------------------


def criteria(panels: Sequence[Panel], args: argparse.Namespace) -> list[str]:
    """Return a line per mark that says what it means."""
    norms = {panel.layer.norm is not None for panel in panels}
    sizes = ['L2 norm'] * (False in norms) + ["deviation by its BatchNorm's statistics"] * (True in norms)
    alike = '|cosine| with that kernel'
    if args.images:
        sizes, alike = [f'deviation over {args.images} images'], '|correlation| with the responses of that filter'
    return [
        f'× ineffectual: {" or ".join(sizes)} ≤ {args.ineffectual:g} of the median',
        f'≈ redundant: {alike} ≥ {args.similarity:g}',
        f'Σ redundant: R² of the regression on the filters left ≥ {args.r2:g}',
    ]


def caption(filter_: Filter) -> str:
    """Return ``'11 ≈ 10'``, ``'1 Σ 0.97'``, ``'5 × 0.00'`` or the number alone."""
    tails = dict(
        similar=f' ≈ {filter_.like}', combination=f' Σ {filter_.r2 or 0:.2f}', ineffectual=f' × {filter_.strength:.2f}'
    )
    return f'{filter_.index}{tails.get(filter_.verdict, "")}'


def picture(kernel: Tensor) -> Tensor:
    """Return a kernel (C, H, W) as an image (H, W, 3) from 0 to 1: zero is mid-grey, the largest weight full scale."""
    image = 0.5 + 0.5 * kernel / kernel.abs().max().clamp_min(torch.finfo(kernel.dtype).tiny)
    return image.expand(3, -1, -1).permute(1, 2, 0)


def summary(panel: Panel) -> str:
    """Return one line: how many filters have which verdict, and which ones."""
    named = {verdict: [caption(f) for f in panel.filters if f.verdict == verdict] for verdict in FRAMES}
    marked = ''.join(f', {len(names)} {verdict} ({"; ".join(names)})' for verdict, names in named.items() if names)
    kernels = f'{len(panel.filters)} filters {shape_text(panel.layer.weight.shape[1:])}'
    return f'{panel.role} {panel.layer.path}: {kernels}: {panel.counts()["kept"]} kept{marked}'


def as_json(panels: Sequence[Panel], legend: Sequence[str], args: argparse.Namespace) -> dict:
    """Return everything found as plain data."""
    options = {key: getattr(args, key) for key in ('ineffectual', 'similarity', 'r2', 'images')}
    networks = {
        panel.role: dict(
            layer=panel.layer.path,
            shape=list(panel.layer.weight.shape),
            counts=panel.counts(),
            filters=[asdict(filter_) for filter_ in panel.filters],
        )
        for panel in panels
    }
    return dict(figure=args.out, criteria=dict(text=list(legend), **options), networks=networks)


def draw(panels: Sequence[Panel], legend: Sequence[str], out: Path) -> None:
    """Draw all panels into one figure.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib; install it with: pip install 'mmrecast[quickstart]'") from error
    columns = [math.ceil(math.sqrt(len(panel.filters))) for panel in panels]
    rows = max(math.ceil(len(p.filters) / c) for p, c in zip(panels, columns, strict=True))
    width = max(0.72 * (sum(columns) + len(columns)), 7.5)
    with rc_context({'svg.fonttype': 'none', 'svg.hashsalt': 'mmrecast', 'font.size': 8}):
        figure = Figure(figsize=(width, 0.9 * rows + 1.1), layout='constrained')
        grid = figure.subplots(1, len(panels), width_ratios=columns, squeeze=False)[0]
        for axes, panel, across in zip(grid, panels, columns, strict=True):
            _draw_panel(axes, panel, across)
        figure.supxlabel('\n'.join(legend), fontsize=8, color='#333333')
        undated = {'.svg': {'Date': None}, '.pdf': {'CreationDate': None}}
        figure.savefig(out, dpi=200, metadata=undated.get(out.suffix))


def _draw_panel(axes: Any, panel: Panel, columns: int) -> None:
    from matplotlib.patches import Rectangle

    rows = math.ceil(len(panel.filters) / columns)
    for filter_, kernel in zip(panel.filters, panel.layer.weight.float().cpu(), strict=True):
        x, y = filter_.index % columns, 1.25 * (filter_.index // columns)
        image = picture(kernel)
        if filter_.verdict == 'ineffectual':
            image = 1 - 0.35 * (1 - image)
        axes.imshow(image.numpy(), extent=(x + 0.06, x + 0.94, y + 0.94, y + 0.06), interpolation='nearest')
        colour, dashes = FRAMES.get(filter_.verdict, ('none', '-'))
        axes.add_patch(
            Rectangle((x + 0.03, y + 0.03), 0.94, 0.94, fill=False, edgecolor=colour, linestyle=dashes, linewidth=1.6)
        )
        ink = '#333333' if filter_.verdict == 'kept' else colour
        axes.text(x + 0.5, y + 1.01, caption(filter_), ha='center', va='top', fontsize=6, color=ink)
    axes.set(xlim=(0, columns), ylim=(1.25 * rows, 0), aspect='equal', anchor='N')
    axes.axis('off')
    counts = panel.counts()
    redundant = counts['similar'] + counts['combination']
    marked = f'{counts["ineffectual"]} ineffectual, {redundant} redundant'
    axes.set_title(f'{panel.role}, {panel.layer.path}\n{len(panel.filters)} filters: {marked}', fontsize=9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', metavar='CONFIG', help='config file, student.pth, name of a model, torchvision:NAME')
    parser.add_argument('--teacher-ckpt', help="the teacher's weights: a file, or torchvision's name of them")
    parser.add_argument('--student', metavar='FILE', help='student.pth to show beside the teacher of a config')
    parser.add_argument('--untrained', action='store_true', help="show the teacher's initial weights")
    parser.add_argument('--layer', metavar='PATH', help='a convolution, or what holds one (the first one called)')
    parser.add_argument(
        '--images', type=int, default=0, help="judge by responses to so many images of the config's data"
    )
    parser.add_argument('--data-root', help='where these data lie')
    parser.add_argument('--ineffectual', type=float, default=INEFFECTUAL, help='strength over the median, at most')
    parser.add_argument('--similarity', type=float, default=SIMILARITY, help='|cos| with another filter, at least')
    parser.add_argument('--r2', type=float, default=R2, help='R² of the regression on the filters left, at least')
    parser.add_argument('--out', default='filters.png', help='the figure: .png, .svg or .pdf (filters.png)')
    parser.add_argument('--json', action='store_true', help='print JSON instead of a summary')
    parser.add_argument('--cfg-options', nargs='+', action=KeyValues, help='key=value, overriding the config')
    args = parser.parse_args()
    with told_in_one_line():
        out = Path(args.out)
        if out.suffix not in FORMATS:
            raise ValueError(f'--out must end in one of {", ".join(FORMATS)}, got {args.out!r}')
        if args.images < 0:
            raise ValueError(f'--images must be at least 0, got {args.images}')
        register_all_modules()
        networks, shape = trained_networks(args)
        images = list(images_of(args)) if args.images else []
        panels = [panel_of(role, network, shape, images, args) for role, network in networks.items()]
        legend = criteria(panels, args)
        out.parent.mkdir(parents=True, exist_ok=True)
        draw(panels, legend, out)
        if args.json:
            print(json.dumps(as_json(panels, legend, args), indent=1))
        else:
            print('\n'.join([*map(summary, panels), *legend, f'written: {out}']))


if __name__ == '__main__':
    main()
