"""The closed-form start of one block inside its network: what it is solved on, and what reads it afterwards."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmrecast.links.prefix import Suffix, run_to
from mmrecast.registry import BLOCKS
from mmrecast.surgery.closed_form import (
    Examples,
    Start,
    changed_layers,
    check_foldable,
    evenly,
    fold,
    mixes,
    parts_of,
    pre_relu_output,
    share_kept,
    solvable_of,
    start_target,
    stops,
)
from mmrecast.surgery.plan import Plan
from mmrecast.surgery.spans import block_at, find_spans
from mmrecast.utils.modules import device_of, get_module, hooked, untouched


def check_closed_form(plan: Plan) -> None:
    """Refuse targets that the start cannot solve for.

    Raises:
        ValueError: There is one; the message names its block.
    """
    for entry in (plan.entries[step] for step in plan.steps):
        try:
            for part in parts_of(BLOCKS.build(dict(entry.target))):
                solvable_of(part)
        except ValueError as error:
            raise ValueError(
                f"start='closed_form' cannot solve for block {entry.path!r}: {error}; use 'xavier'"
            ) from error


@dataclass(frozen=True)
class Collected:
    """What a block is solved on.

    Args:
        examples (list[Examples]): One per part of the target.
        inputs (list[Tensor]): The images (N, C, H, W) that they come from, batch by batch.
        taught (list[Tensor]): What the teacher's block gets (N, C, H, W) of them; of teacher-fed blocks, and where
            nothing that reads the block was rebuilt, the examples' own inputs.
    """

    examples: list[Examples]
    inputs: list[Tensor]
    taught: list[Tensor]


class BlockStart:
    """The start of target k, which stands in the student already, and of what reads it.

    Args:
        student (nn.Module): The student.
        teacher (nn.Module): The teacher.
        plan (Plan): The plan.
        step (int): Position of block k in it.
        old (nn.Module): The block that stood in the student before.
        new (list[str]): Paths of the modules that are new there, the target's among them.
        ridge (float): Damping of the regressions.
        images (int): How many images will come, for the share of them that is kept.
        teacher_fed (bool): Whether the block gets the teacher's input instead of the student's.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        plan: Plan,
        step: int,
        old: nn.Module,
        new: list[str],
        ridge: float,
        images: int,
        teacher_fed: bool,
    ) -> None:
        self.student, self.teacher, self.entry, self.old = student, teacher, plan.entries[step], old
        self.readers = [path for path in new if path not in self.entry.modules]
        self.ridge, self.images, self.teacher_fed = ridge, images, teacher_fed
        self._collected: Collected | None = None
        self._suffixes: dict[nn.Module, Suffix | None] = {}

    def __call__(
        self, batches: Iterable[dict] | Collected, keep_reader: bool, may_lift: bool, alone: bool = False
    ) -> Start:
        """Solve for the block, and for what reads it.

        Args:
            batches (Iterable[dict] | Collected): Preprocessed batches with ``inputs``, or what `collect` made of them
                for another target in this place.
            keep_reader (bool): Whether what reads the block is to compute what it did in the teacher.
            may_lift (bool): Whether the block's output may be shifted where a BN behind it takes that back.
            alone (bool): Whether to leave what reads the block as it is: its own error is all that is wanted, and the
                network cannot be used afterwards. Defaults to False.

        Raises:
            ValueError: There is no batch, or what reads the block cannot go on computing what it did.
        """
        entry = self.entry
        target = get_module(self.student, entry.path)
        if keep_reader:
            check_foldable(self.student, self.teacher, self.readers)
        collected = batches if isinstance(batches, Collected) else self.collect(batches, len(parts_of(target)))
        examples, self._collected, self._suffixes = collected.examples, collected, {}
        changed = list(changed_layers(self.student, self.teacher, self.readers))
        mixing = all(mixes(layer) for _, layer in changed)
        norms = self._taking_back() if may_lift else []
        start = start_target(target, examples, self.ridge, self.old, bool(norms), mixing)
        if start.lifted is not None:
            for path in norms:
                norm = get_module(self.student, path)
                norm.running_mean.add_(start.lifted.to(norm.running_mean.dtype))
        if start.code is not None and keep_reader and changed and not alone:
            spans = find_spans(
                self.student, [path for path, layer in changed if isinstance(layer, nn.Conv2d)], collected.inputs[0][:2]
            )
            fold(self.student, self.teacher, self.readers, start.code, self._read, spans)
        self._collected = None
        print_log(f'{entry.path}: {start.way}; relative error {start.error:.4f}', logger='current')
        return start

    def collect(self, batches: Iterable[dict], parts: int = 1) -> Collected:
        """Run both networks and return what a target of so many parts is solved on.

        Raises:
            ValueError: There is no batch.
        """
        entry, share, kept, taught = self.entry, None, [], []
        two = bool(self.readers) and not self.teacher_fed  # inputs: the teacher's own serves what reads the block
        source = block_at(self.teacher, entry.path, entry.span)
        examples = [Examples() for _ in range(parts)]
        for batch in batches:
            inputs = batch['inputs']
            with torch.no_grad(), untouched(self.student):
                t_input = run_to(self.teacher, entry.path, inputs, read=entry.path)[1]
                x = t_input
                if not self.teacher_fed:
                    x = run_to(self.student, entry.path, inputs, read=entry.path)[1]
                outputs = list(_outputs(source, t_input, parts))
            tensors = [inputs, x, *(y for y, _ in outputs), *((t_input,) if two else ())]
            share = share_kept(tensors, self.images) if share is None else share
            inputs, x, *ys = evenly(tensors, share)
            kept.append(inputs)
            taught.append(ys.pop() if two else x)
            for i, (each, y, (_, relu)) in enumerate(zip(examples, ys, outputs, strict=True)):
                each.y.append(y)
                each.relu = relu
                if i == 0:
                    each.x.append(x)
        if not kept:
            raise ValueError('the closed-form start got no image')
        return Collected(examples, kept, taught)

    @torch.no_grad()
    def _read(self, path: str, teachers: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield what the student's module at ``path`` and the teacher's at another read."""
        collected = self._collected
        for inputs, x, taught in zip(collected.inputs, collected.examples[0].x, collected.taught, strict=True):
            with untouched(self.student):
                s = self._behind(self.student, path, inputs, x)
            yield s, self._behind(self.teacher, teachers, inputs, taught)

    def _behind(self, network: nn.Module, path: str, inputs: Tensor, known: Tensor) -> Tensor:
        """Return what a network's module at ``path`` reads where block k gets ``known``."""
        if network not in self._suffixes:
            try:
                self._suffixes[network] = Suffix(network, self.entry.path, inputs[:2], included=True)
            except ValueError:  # what is behind the block reads what was before it, too
                self._suffixes[network] = None
        suffix = self._suffixes[network]
        if suffix is not None:
            return suffix(network, lambda: run_to(network, path, inputs, read=path)[1], known.clone())
        feed = (self.entry.path, lambda x: known) if self.teacher_fed else None
        return run_to(network, path, inputs, read=path, feed=feed)[1]

    @torch.no_grad()
    def _taking_back(self) -> list[str]:
        """Return the BNs that read the block's output, if nothing else notices that it is shifted with their means."""
        out: list[Tensor] = []
        norms: list[str] = []

        def note(path: str):
            return lambda module, args: norms.append(path) if out and args and args[0] is out[0] else None

        def shift(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
            return output + amount

        teacher, amount = self.teacher, 1.0
        block = get_module(teacher, self.entry.output)
        noise = torch.randn(2, *self._shape(), generator=torch.Generator().manual_seed(0)).to(device_of(teacher))
        handles = [block.register_forward_hook(lambda m, a, output: out.append(output))]
        handles += [
            module.register_forward_pre_hook(note(path))
            for path, module in teacher.named_modules()
            if isinstance(module, nn.BatchNorm2d) and module.track_running_stats
        ]
        with untouched(teacher):
            with hooked(handles):
                before = teacher(noise)
            with hooked([block.register_forward_hook(shift)]):
                for path in norms:
                    get_module(teacher, path).running_mean.add_(amount)
                after = teacher(noise)
        same = torch.allclose(before, after, rtol=1e-3, atol=1e-4)
        return norms if norms and same else []

    def _shape(self) -> tuple[int, ...]:
        return tuple(self._collected.inputs[0].shape[1:])


@torch.no_grad()
def _outputs(source: nn.Module, x: Tensor, parts: int) -> Iterator[tuple[Tensor, bool]]:
    """Yield what each of ``parts`` blocks in the place of ``source`` should give before a last ReLU, and if that is."""
    whole = pre_relu_output(source, x)
    children = list(source) if parts > 1 and isinstance(source, nn.Sequential) else []
    stop = stops(len(children), parts) if len(children) >= parts else []
    for i in range(len(stop) - 1):
        begin = stop[i - 1] + 1 if i else 0
        for child in children[begin : stop[i]]:
            x = child(x)
        y, relu = pre_relu_output(children[stop[i]], x)
        if y.shape != whole[0].shape:
            yield from [whole] * (parts - i)
            return
        yield y, relu
        x = children[stop[i]](x)
    yield from [whole] * (1 if stop else parts)
