"""What each candidate loses, known without training: the residual of its closed-form start, in units of the loss.

::

    per block    teacher's input and output, once ─▶ least squares for every target ─▶ relative error
                 a few of them swapped into the teacher alone ─▶ KL(teacher ‖ swapped) ─▶ KL per relative error
    price = KL per relative error of the block · relative error of the candidate

A candidate is solved for the teacher's width at its input: a narrow target pays for its narrowing itself, since what
reads it goes on computing what it did (``surgery.closed_form``), so that another input width has no price of its own.
"""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div

from mmrecast.algorithms.block_start import BlockStart, Collected
from mmrecast.links.prefix import Suffix, run_to
from mmrecast.planning.candidates import Candidate
from mmrecast.planning.pool import shared
from mmrecast.surgery.apply import apply_step
from mmrecast.surgery.chain import Chain
from mmrecast.surgery.plan import Plan, make_plan
from mmrecast.surgery.spans import block_at
from mmrecast.utils.checkpoint import write_json
from mmrecast.utils.digests import digest, digest_tensors
from mmrecast.utils.modules import untouched

SWAPPED = 3  # candidates of a block whose loss is measured
EXACT = 1e-6  # a relative error below is the teacher's own block again
RECAST = 1e-6  # nats that every target costs: of two that lose nothing the teacher's own block is kept


@dataclass(frozen=True)
class Price:
    """What a target loses in the place of a block.

    Args:
        error (float): Relative error of its output, given the teacher's input.
        loss (float, optional): KL(teacher ‖ student) in nats per image where it alone is swapped in, if measured.
    """

    error: float
    loss: float | None = None


class PriceList:
    """The prices of a chain's candidates, kept in a folder under what decides on them.

    Args:
        teacher (nn.Module): The trained network, in eval mode.
        chain (Chain): Its chain.
        batches (Sequence[Tensor]): Training images (N, C, H, W) that starts are solved on, as the teacher takes them.
        judged (Sequence[Tensor]): Other images, on which a swap is measured.
        folder (str | Path, optional): Where prices are kept. Defaults to None: nowhere.
        ridge (float): Damping of the regressions. Defaults to 1e-4.
    """

    def __init__(
        self,
        teacher: nn.Module,
        chain: Chain,
        batches: Sequence[Tensor],
        judged: Sequence[Tensor],
        folder: str | Path | None = None,
        ridge: float = 1e-4,
    ) -> None:
        self.teacher, self.chain, self.batches, self.judged, self.ridge = teacher, chain, batches, judged, ridge
        images = {f'solved{i}': x for i, x in enumerate(batches)} | {f'judged{i}': x for i, x in enumerate(judged)}
        self.key = digest([digest_tensors(teacher), digest_tensors(images), ridge, list(chain.paths)])
        self.folder = None if folder is None else Path(folder) / self.key
        self._kept: dict[int, dict[str, Price | None]] = {}  # where there is no folder
        self.computed = 0

    def all(
        self,
        candidates: Sequence[Sequence[Candidate]],
        jobs: int = 1,
        told: Callable[[str], None] = lambda line: None,
    ) -> list[list[float | None]]:
        """Return the prices of all blocks' candidates, see `of`.

        Args:
            candidates (Sequence[Sequence[Candidate]]): Per block.
            jobs (int): Processes that share the work where prices are kept in a folder. Defaults to 1.
            told (Callable): Gets a line per block that had to be computed. Defaults to nothing.
        """
        if jobs > 1 and self.folder is not None:
            missing = {i: len(self._missing(i, own)) for i, own in enumerate(candidates)}
            calls = [(i, candidates[i]) for i, number in missing.items() if number]
            targets = [c.target for _, own in calls for c in own if c.target is not None]
            for i, _ in shared(self, 'of', calls, jobs, targets):
                self.computed += missing[i]
                told(self._line(i, missing[i]))
        return [self.of(i, own, told) for i, own in enumerate(candidates)]

    def of(
        self, i: int, candidates: Sequence[Candidate], told: Callable[[str], None] = lambda line: None
    ) -> list[float | None]:
        """Return the price of every candidate of block ``i``, None for one that cannot be solved for.

        Args:
            i (int): Position of the block in the chain.
            candidates (Sequence[Candidate]): What it may become.
            told (Callable): Gets a line on what was computed. Defaults to nothing.
        """
        known, missing = self._read(i), self._missing(i, candidates)
        if missing:
            known |= self._solve(i, missing, known)
            self._write(i, known)
            self.computed += len(missing)
            told(self._line(i, len(missing)))
        solved = {key: price for key, price in known.items() if price is not None}
        rate = _rate([price for price in solved.values() if price.loss is not None])
        return [
            0.0 if c.target is None else None if known[key_of(c)] is None else RECAST + rate * known[key_of(c)].error
            for c in candidates
        ]

    def error(self, i: int, candidate: Candidate) -> float | None:
        """Return the relative error of a candidate that has been priced."""
        price = None if candidate.target is None else self._read(i).get(key_of(candidate))
        return 0.0 if candidate.target is None else price and price.error

    def _missing(self, i: int, candidates: Sequence[Candidate]) -> dict[str, Candidate]:
        known = self._read(i)
        targets = {key_of(c): c for c in candidates if c.target is not None}
        return {key: c for key, c in targets.items() if key not in known}

    def _line(self, i: int, number: int) -> str:
        return f'{self.chain.paths[i]}: {number} targets priced'

    # ---- folder -----------------------------------------------------------------------------------------------------

    def _path(self, i: int) -> Path | None:
        return None if self.folder is None else self.folder / f'{self.chain.paths[i]}.json'

    def _read(self, i: int) -> dict[str, Price | None]:
        path = self._path(i)
        if path is None:
            return dict(self._kept.get(i, {}))
        if not path.is_file():
            return {}
        try:
            content = json.loads(path.read_text(encoding='utf-8'))
            return {key: None if value is None else Price(**value) for key, value in content.items()}
        except (ValueError, TypeError, AttributeError):
            return {}  # a damaged file is written anew

    def _write(self, i: int, prices: Mapping[str, Price | None]) -> None:
        path = self._path(i)
        if path is None:
            self._kept[i] = dict(prices)
            return
        write_json({key: None if price is None else asdict(price) for key, price in prices.items()}, path)

    # ---- pricing ----------------------------------------------------------------------------------------------------

    def _solve(self, i: int, targets: Mapping[str, Candidate], known: Mapping[str, Price | None]) -> dict:
        block = self.chain.blocks[i]
        images = sum(map(len, self.batches))
        collected: Collected | None = None
        found: dict[str, Price | None] = {}
        for key, candidate in targets.items():
            try:
                swap = _Swap(self.teacher, self.chain, i, candidate)
                begin = swap.start(self.ridge, images)
                if collected is None:
                    collected = begin.collect([dict(inputs=x) for x in self.batches])
                found[key] = Price(begin(collected, True, True, alone=True).error)
            except ValueError:  # no closed form of it, or none that what reads it could take up
                found[key] = None
        measured = [key for key, price in known.items() if price is not None and price.loss is not None]
        if len(measured) < SWAPPED:
            errors = {k: p.error for k, p in found.items() if p is not None and p.error > EXACT}
            for key in _spread(errors, SWAPPED - len(measured)):
                swap = _Swap(self.teacher, self.chain, i, targets[key])
                try:
                    swap.start(self.ridge, images)(collected, True, True)
                except ValueError:
                    found[key] = None
                    continue
                found[key] = Price(found[key].error, self.loss_of_swap(block.path, swap.student))
        return found

    def loss_of_swap(self, path: str, student: nn.Module) -> float:
        """Return KL(teacher ‖ student) per judged image; what is before the block at ``path`` is the teacher's."""
        suffix = Suffix(student, path, self.judged[0][:2], included=True)

        def both(inputs: Tensor) -> tuple[Tensor, Tensor]:
            logits, x = run_to(self.teacher, None, inputs, read=path)
            return suffix(student, lambda: student(inputs), x), logits

        with untouched(student):
            return divergence(both, self.judged)


@torch.no_grad()
def divergence(both: Callable[[Tensor], tuple[Tensor, Tensor]], images: Sequence[Tensor]) -> float:
    """Return KL(teacher ‖ student) in nats per image.

    Args:
        both (Callable): Gives the student's and the teacher's logits (N, classes) of a batch.
        images (Sequence[Tensor]): Batches (N, C, H, W).
    """
    total = 0.0
    for inputs in images:
        logits = (z.double().log_softmax(1) for z in both(inputs))
        total += kl_div(*logits, reduction='sum', log_target=True).item()
    return total / sum(map(len, images))


class _Swap:
    """A copy of the teacher with one block replaced."""

    def __init__(self, teacher: nn.Module, chain: Chain, i: int, candidate: Candidate) -> None:
        at_full_width = copy.deepcopy(candidate.rule)
        self.teacher, self.step = teacher, i
        self.plan: Plan = make_plan(teacher, [at_full_width], chain.input_shape, chain)
        self.student = copy.deepcopy(teacher)
        entry = self.plan.entries[i]
        self.old = block_at(self.student, entry.path, entry.span)
        self.new = apply_step(self.student, self.plan, i)
        self.student.eval()

    def start(self, ridge: float, images: int) -> BlockStart:
        """Return the start of the target, given the teacher's input."""
        return BlockStart(self.student, self.teacher, self.plan, self.step, self.old, self.new, ridge, images, True)


def key_of(candidate: Candidate) -> str:
    """Return what decides on a candidate's price: its target but for the width that it reads."""
    return json.dumps({key: value for key, value in candidate.target.items() if key != 'in_channels'}, sort_keys=True)


def _spread(errors: Mapping[str, float], number: int) -> list[str]:
    """Return the names of the smallest, the largest and others between in even steps of the ranking."""
    ranked = sorted(errors, key=lambda key: errors[key])
    number = min(number, len(ranked))
    if number < 2:
        return ranked[:number]
    return [ranked[round(j * (len(ranked) - 1) / (number - 1))] for j in range(number)]


def _rate(prices: Sequence[Price]) -> float:
    """Return the loss per relative error: the geometric mean, so that small errors count as much as large ones."""
    pairs = [(p.error, p.loss) for p in prices if p.error > EXACT and p.loss is not None and p.loss > 0]
    if not pairs:
        return 1.0
    logs = [torch.tensor(loss / error, dtype=torch.float64).log() for error, loss in pairs]
    return float(torch.stack(logs).mean().exp())
