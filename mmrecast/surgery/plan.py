"""The plan of a recasting: plain data with one entry per block, stored with the student and replayed to rebuild it.

::

    recipe (patterns → targets) + chain  ── make_plan ──▶  Plan  ── apply_step / replay ──▶  student
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, fields, replace

from torch import nn

from mmrecast.blocks.base import SourceInfo
from mmrecast.models.constructor import untrained
from mmrecast.registry import BLOCKS
from mmrecast.surgery.chain import Chain, ChainBlock, Shape, find_chain, match
from mmrecast.utils.names import nearest
from mmrecast.utils.plain import is_plain
from mmrecast.utils.shapes import check_shape

ACTIONS = ('recast', 'rebuild', 'keep')
_TUPLES = ('in_shape', 'out_shape', 'glue', 'span')


@dataclass(frozen=True)
class PlanEntry:
    """What becomes of one block.

    Args:
        path (str): Where the block stands.
        action (str): 'recast' (replaced by ``target``), 'rebuild' (same type for another input width) or 'keep'.
        source (SourceInfo): The block as it is in the teacher.
        in_shape, out_shape (tuple[int]): (C, H, W) in the teacher.
        in_channels, out_channels (int): Widths in the student.
        target (dict, optional): Complete config of the target block, for ``BLOCKS``.
        glue (tuple[str]): Modules between this block and the next one (the head, behind the last).
        span (tuple[str]): In a flat network, the modules behind the convolution that belong to the block.

    Raises:
        ValueError: The values contradict one another.
    """

    path: str
    action: str
    source: SourceInfo
    in_shape: Shape
    out_shape: Shape
    in_channels: int
    out_channels: int
    target: dict | None = None
    glue: tuple[str, ...] = ()
    span: tuple[str, ...] = ()

    @property
    def output(self) -> str:
        """str: Path of the module whose output is the block's, in the teacher and in the student."""
        return self.span[-1] if self.span else self.path

    @property
    def modules(self) -> tuple[str, ...]:
        """tuple[str]: Paths of all that the block is made of."""
        return (self.path, *self.span)

    def __post_init__(self) -> None:
        for path in (self.path, *self.glue, *self.span):
            if not isinstance(path, str):
                raise ValueError(f'plan entry {self.path!r}: {path!r} is no path of a module')
        if self.action not in ACTIONS:
            raise ValueError(f'plan entry {self.path!r}: action {self.action!r} is none of {", ".join(ACTIONS)}')
        if len(self.in_shape) != 3 or len(self.out_shape) != 3:
            raise ValueError(
                f'plan entry {self.path!r}: its shapes are (C, H, W), got {self.in_shape}, {self.out_shape}'
            )
        for width in (self.in_channels, self.out_channels, *self.in_shape, *self.out_shape):
            if isinstance(width, bool) or not isinstance(width, int) or width < 1:
                raise ValueError(f'plan entry {self.path!r}: {width!r} is no number of channels or pixels')
        if (self.action == 'recast') != isinstance(self.target, dict):
            raise ValueError(f'plan entry {self.path!r}: action {self.action!r} and target {self.target} do not fit')


@dataclass(frozen=True)
class Plan:
    """A resolved recipe.

    Args:
        input_shape (tuple[int]): (C, H, W) the chain was found with.
        entries (tuple[PlanEntry]): One per block of the chain, in order.
    """

    input_shape: Shape
    entries: tuple[PlanEntry, ...]

    @property
    def steps(self) -> list[int]:
        """list[int]: Positions of the entries that are recast, in the order in which they are."""
        return [i for i, entry in enumerate(self.entries) if entry.action == 'recast']

    def tap(self, step: int) -> str | None:
        """Return the path whose output is that of the block behind entry ``step``, None where that is the head."""
        follower = self.follower(step)
        return None if follower is None else follower.output

    def follower(self, step: int) -> PlanEntry | None:
        """Return the entry of the block behind entry ``step``, None where that is the head."""
        return self.entries[step + 1] if step + 1 < len(self.entries) else None

    def after(self, steps: int) -> 'Plan':
        """Return the plan of the student as it is when only the first ``steps`` blocks are recast."""
        done, entries = set(self.steps[:steps]), []
        for i, entry in enumerate(self.entries):
            fed_as_planned = i == 0 or i - 1 in done or entries[-1] == self.entries[i - 1]
            if i not in done:
                in_channels = entry.in_channels if fed_as_planned else entry.in_shape[0]
                action = 'keep' if in_channels == entry.in_shape[0] else 'rebuild'
                values = dict(action=action, in_channels=in_channels, out_channels=entry.out_shape[0], target=None)
                entry = replace(entry, **values)
            entries.append(entry)
        return Plan(self.input_shape, tuple(entries))

    def without(self, paths: Collection[str]) -> 'Plan':
        """Return the plan in which the blocks at ``paths`` are kept from the teacher.

        Raises:
            ValueError: A width changes before or behind one of them, where the teacher's block does not fit.
        """
        for entry in [entry for entry in self.entries if entry.path in paths]:
            widths = ((entry.in_shape[0], entry.in_channels), (entry.out_shape[0], entry.out_channels))
            for teachers, students in widths:
                if teachers != students:
                    raise ValueError(
                        f'block {entry.path!r} cannot be kept from the teacher: {students} channels beside it where '
                        f'the teacher has {teachers}'
                    )
        kept = dict(action='keep', target=None)
        entries = tuple(replace(entry, **kept) if entry.path in paths else entry for entry in self.entries)
        return Plan(self.input_shape, entries)

    def to_dict(self) -> dict:
        """Return the plan as dicts, lists and numbers."""
        return dict(
            input_shape=list(self.input_shape),
            entries=[asdict(entry) | {k: list(getattr(entry, k)) for k in _TUPLES} for entry in self.entries],
        )

    @classmethod
    def from_dict(cls, plan: dict) -> 'Plan':
        """Return the plan that :meth:`to_dict` made.

        Raises:
            ValueError: ``plan`` is no such dict.
        """
        names = {f.name for f in fields(PlanEntry)}
        try:
            entries = []
            if not isinstance(plan, dict) or not is_plain(plan):
                raise TypeError(f'a dict of plain data is expected, got {type(plan).__name__}')
            if not isinstance(plan['entries'], list | tuple):
                raise TypeError(f'entries is a list, got {type(plan["entries"]).__name__}')
            for entry in plan['entries']:
                entry = dict(span=[]) | entry  # files of before flat networks have none
                if set(entry) != names:
                    raise ValueError(f'its entries hold {", ".join(sorted(set(entry) ^ names))} too much or too little')
                values = dict(entry, source=SourceInfo(**entry['source']))
                values |= {k: tuple(entry[k]) for k in _TUPLES}
                entries.append(PlanEntry(**values))
            return cls(check_shape(plan['input_shape']), tuple(entries))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            missing = 'it lacks ' if isinstance(error, KeyError) else ''
            raise ValueError(f'not a recasting plan: {missing}{" ".join(str(error).split())[:300]}') from error


def make_plan(network: nn.Module, recipe: Sequence[dict], input_shape: Shape, chain: Chain | None = None) -> Plan:
    """Resolve ``recipe`` on ``network``.

    Args:
        network (nn.Module): The teacher, or an untrained network like it.
        recipe (Sequence[dict]): Rules ``dict(source=pattern(s), target=dict(type=…, …))``. A target may set
            ``out_channels`` or ``width_ratio`` (one number, or one per selected block); without them it takes the width
            it prefers for the source.
        input_shape (tuple[int]): (C, H, W).
        chain (Chain, optional): The network's chain. Defaults to finding it.

    Raises:
        ValueError: The recipe cannot be carried out; the message names the block and what to write instead.
        KeyError: A target type is not registered.
    """
    rules = _check_recipe(recipe)
    if chain is None:
        chain = find_chain(network, input_shape, sources_of(recipe))
    targets = _assign(rules, chain)
    entries, width = [], None
    for i, block in enumerate(chain.blocks):
        in_channels = block.in_shape[0] if width is None else width
        entry = _plan_block(block, targets.get(block.path), in_channels)
        entries.append(entry)
        width, last = None, i + 1 == len(chain.blocks)
        restored = _restoring(network, block)
        if entry.out_channels != block.out_shape[0] and restored and block.source.kind == 'dense' and not last:
            raise ValueError(
                f'the width of {block.path!r} cannot change: the transition behind it ({restored!r}) is kept from the '
                f'teacher and reads {block.out_shape[0]} channels; leave out_channels and width_ratio out'
            )
        if entry.out_channels != block.out_shape[0] and not restored:
            width = entry.out_channels
            if not last and chain.blocks[i + 1].in_shape[0] != block.out_shape[0]:
                raise ValueError(
                    f'the width of {block.path!r} cannot change: the glue behind it turns {block.out_shape} into '
                    f'{chain.blocks[i + 1].in_shape} without a convolution that could be refitted'
                )
    return Plan(tuple(input_shape), tuple(entries))


def _restoring(network: nn.Module, block: ChainBlock) -> str | None:
    """Return the path of the convolution behind ``block`` that takes up a changed width before the next block."""
    return next((path for path in block.glue if isinstance(network.get_submodule(path), nn.Conv2d)), None)


def target_class(name: str) -> type:
    """Return the class registered as ``name`` in ``BLOCKS``; nothing is imported for the name's sake.

    Raises:
        KeyError: There is none; the message lists the nearest names.
    """
    BLOCKS.import_from_location()
    plain = name.removeprefix('mmrecast.')
    if plain not in BLOCKS.module_dict:
        known = nearest(plain, BLOCKS.module_dict)
        raise KeyError(f'{name!r} is not registered in mmrecast.block{known}; custom_imports registers your own')
    return BLOCKS.module_dict[plain]


def sources_of(recipe: Sequence[dict]) -> tuple[str, ...]:
    """Return the patterns of a recipe's rules, for :func:`find_chain`.

    Raises:
        ValueError, KeyError: As :func:`make_plan` for a malformed recipe.
    """
    return tuple(pattern for patterns, _ in _check_recipe(recipe) for pattern in patterns)


def _check_recipe(recipe: Sequence[dict]) -> list[tuple[list[str], dict]]:
    if isinstance(recipe, dict):
        recipe = [recipe]
    if not isinstance(recipe, list | tuple) or not recipe:
        raise ValueError(f'a recipe is a list of dict(source=…, target=…), got {recipe!r}')
    return [_check_rule(rule) for rule in recipe]


def _check_rule(rule: dict) -> tuple[list[str], dict]:
    if not isinstance(rule, dict) or set(rule) != {'source', 'target'}:
        raise ValueError(f'a rule of a recipe is dict(source=…, target=…), got {rule!r}')
    patterns, target = rule['source'], rule['target']
    patterns = list(patterns) if isinstance(patterns, list | tuple) else [patterns]
    if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
        raise ValueError(f'the source of a rule is a pattern or a list of patterns, got {rule["source"]!r}')
    target = target if isinstance(target, dict) else dict(type=target)
    if not isinstance(target.get('type'), str | type):
        raise ValueError(f'the target for {patterns} names no type: {rule["target"]!r}')
    try:
        target = untrained(target)
    except (TypeError, ValueError) as error:
        raise ValueError(f'the target for {patterns} is not a config: {error}') from error
    target_class(target['type'])
    target['type'] = target['type'].removeprefix('mmrecast.')
    if 'width_ratio' in target and 'out_channels' in target:
        raise ValueError(f'the target for {patterns} sets both width_ratio and out_channels: choose one')
    if 'in_channels' in target:
        raise ValueError(f'the target for {patterns} sets in_channels, which the network decides: leave it out')
    return patterns, target


def _assign(rules: list[tuple[list[str], dict]], chain: Chain) -> dict[str, dict]:
    """Give every selected block its target; refuse blocks named twice or against the order of the chain."""
    targets: dict[str, dict] = {}
    last = -1
    for patterns, target in rules:
        selected = [path for pattern in patterns for path in match(pattern, chain.paths + list(chain.left_out))]
        ratios = target.get('width_ratio')
        if isinstance(ratios, list | tuple) and len(ratios) != len(selected):
            raise ValueError(f'{patterns} selects {len(selected)} blocks but width_ratio has {len(ratios)} values')
        for i, path in enumerate(selected):
            position = chain.index(path)
            if path in targets:
                raise ValueError(f'block {path!r} is selected twice by the recipe: name it once')
            if position < last:
                raise ValueError(
                    f'source {path!r} stands before {chain.paths[last]!r} in the network: write the rules in that order'
                )
            last = position
            single = dict(width_ratio=ratios[i]) if isinstance(ratios, list | tuple) else {}
            targets[path] = target | single
    return targets


def _plan_block(block: ChainBlock, target: dict | None, in_channels: int) -> PlanEntry:
    out_channels = block.out_shape[0]
    if target is None:
        action = 'keep' if in_channels == block.in_shape[0] else 'rebuild'
    else:
        if block.source is None:
            raise ValueError(f'block {block.path!r} cannot be recast: {block.why}')
        action, target = 'recast', dict(target)
        cls = target_class(target['type'])
        replaces = getattr(cls, 'replaces', ())
        if replaces and block.source.kind not in replaces:
            raise ValueError(
                f'{target["type"]} cannot replace {block.path!r}, a {block.source.kind} block: it replaces '
                f'{", ".join(replaces)}'
            )
        out_channels = _width(block, target, cls)
        target |= dict(in_channels=in_channels, out_channels=out_channels)
        inherited = getattr(cls, 'arguments', lambda source: {})(block.source)
        if not set(inherited) & set(target):
            target |= inherited
        if target.setdefault('stride', block.source.stride) != block.source.stride:
            raise ValueError(
                f'block {block.path!r} maps {block.in_shape} to {block.out_shape}, so its target needs stride '
                f'{block.source.stride}, not {target["stride"]}: leave stride out'
            )
    source = block.source or SourceInfo('module', block.in_shape[0], block.out_shape[0], 0)
    return PlanEntry(
        block.path,
        action,
        source,
        block.in_shape,
        block.out_shape,
        in_channels,
        out_channels,
        target,
        block.glue,
        block.span,
    )


def _width(block: ChainBlock, target: dict, cls: type) -> int:
    if 'out_channels' in target:
        width = target['out_channels']
    else:
        prefer = getattr(cls, 'preferred_width', None)
        width = prefer(block.source) if prefer else block.source.out_channels
        ratio = target.pop('width_ratio', 1)
        known = isinstance(ratio, int | float) and not isinstance(ratio, bool)
        if not known or not math.isfinite(ratio) or ratio <= 0:
            raise ValueError(f'width_ratio for {block.path!r} must be a positive number, got {ratio!r}')
        width = int(width * ratio + 0.5)
    if isinstance(width, bool) or not isinstance(width, int) or width < 1:
        raise ValueError(
            f'the target for {block.path!r} would have {width!r} channels: a whole number of at least 1 is needed'
        )
    return width
