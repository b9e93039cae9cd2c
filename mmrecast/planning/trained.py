"""The best few candidates of a block, trained alone with the teacher's activation as input, and kept.

::

    candidate ─▶ closed form in a copy of the teacher ─▶ one pass over the training images (Adam, cosine) ─▶ the better
    of start and end, by the relative error behind the next block ─▶ KL(teacher ‖ swapped), weights kept in a file

No block waits for another, so that several processes can share the work; what a file holds is not trained again. The
same files start the recasting (``trained_blocks`` of :class:`Recasting`).
"""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import geometric_mean

import torch
from torch import Tensor, nn

from mmrecast.algorithms import Recasting
from mmrecast.algorithms.trained_blocks import TrainedBlock, read_trained_block
from mmrecast.engine.layout import broken_by_layout
from mmrecast.planning.candidates import Candidate
from mmrecast.planning.choice import Option
from mmrecast.planning.pool import shared
from mmrecast.planning.prices import RECAST, PriceList, key_of
from mmrecast.stages import Stage
from mmrecast.surgery.chain import Shape
from mmrecast.utils.checkpoint import save_file
from mmrecast.utils.digests import digest, digest_tensors

LR = 1e-3  # of Adam, at the first image


@dataclass(frozen=True)
class Trained:
    """What training alone made of a candidate.

    Args:
        error_start, error (float): Relative error behind the next block on the judged images, given the teacher's
            input to the block: of the closed form, and at the end.
        loss_start, loss (float): KL(teacher ‖ student) in nats per judged image where it alone is swapped in.
        images (int): Seen in training.
        seconds (float): That it took, of the process that trained it.
        file (str): Where its weights are.
    """

    error_start: float
    error: float
    loss_start: float
    loss: float
    images: int
    seconds: float
    file: str


class TrainedCandidates:
    """Candidates trained alone, kept in the folder of a price list.

    Args:
        prices (PriceList): The teacher, its chain, the images of the starts and those to judge by; it has a folder.
        batches (Sequence[Tensor]): Training images (N, C, H, W) as the teacher takes them; each is seen once.
        block_loss (Mapping): Loss of the block stages, as in a config. Defaults to ``MSELoss``.
        lr (float): First learning rate of Adam. Defaults to 1e-3.

    Raises:
        ValueError: The price list has no folder, there is no image, or the rate is not above 0.
    """

    def __init__(
        self,
        prices: PriceList,
        batches: Sequence[Tensor],
        block_loss: Mapping = dict(type='MSELoss'),
        lr: float = LR,
    ) -> None:
        if prices.folder is None:
            raise ValueError('candidates that are trained need a folder to be kept in (cache)')
        if not batches:
            raise ValueError('candidates cannot be trained without images')
        if isinstance(lr, bool) or not isinstance(lr, int | float) or not 0 < lr < float('inf'):
            raise ValueError(f'the learning rate of candidates must be a number above 0, got {lr!r}')
        self.prices, self.batches, self.block_loss, self.lr = prices, list(batches), dict(block_loss), lr
        images = digest_tensors({f'trained{i}': x for i, x in enumerate(batches)})
        self.folder = prices.folder / f'trained-{digest([images, self.block_loss, lr])}'
        self._teacher = digest_tensors(prices.teacher)
        self._known: dict[Path, Trained] = {}

    def known(self, i: int, candidate: Candidate) -> Trained | None:
        """Return what is kept of a candidate of block ``i``; a file that cannot be read counts as none."""
        path = self.path(i, candidate)
        if path not in self._known and path.is_file():
            try:
                found = Trained(**read_trained_block(path).about, file=str(path))
            except (ValueError, TypeError):
                return None
            if not all(isinstance(x, int | float) for name, x in asdict(found).items() if name != 'file'):
                return None
            self._known[path] = found
        return self._known.get(path)

    def path(self, i: int, candidate: Candidate) -> Path:
        """Return the file of a candidate; its width at the input is the teacher's, whatever the candidate's is."""
        return self.folder / f'{self.prices.chain.paths[i]}-{digest(key_of(candidate))}.pth'

    def train(
        self,
        wanted: Sequence[tuple[int, Candidate]],
        jobs: int = 1,
        told: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Train those candidates that are not known.

        Args:
            wanted (Sequence[tuple[int, Candidate]]): Position of the block, and what it may become.
            jobs (int): Processes that share the work; PyTorch's threads are divided among them. Defaults to 1: this
                one alone.
            told (Callable): Gets a line per candidate. Defaults to nothing.
        """
        missing = {self.path(*one): one for one in wanted if self.known(*one) is None}
        self.folder.mkdir(parents=True, exist_ok=True)
        targets = [candidate.target for _, candidate in missing.values()]
        for number, one in enumerate(shared(self, 'train_one', list(missing.values()), jobs, targets), 1):
            told(self._line(one, number, len(missing)))

    def train_one(self, i: int, candidate: Candidate) -> None:
        """Train a candidate of block ``i`` and write its file."""
        begin = time.perf_counter()
        prices = self.prices
        path = prices.chain.paths[i]
        algorithm = recasting_of(
            prices.teacher, prices.chain.input_shape, [candidate.rule], prices.batches, ridge=prices.ridge,
            block_input='teacher', block_loss=self.block_loss,
        )  # fmt: skip
        (stage,) = algorithm.expand([Stage('recast', iters=0, blocks='all')])
        algorithm.begin_stage(stage, [dict(inputs=x) for x in prices.batches])
        judged = [dict(inputs=x) for x in prices.judged]
        start = {name: value.clone() for name, value in algorithm.student.state_dict().items()}
        error_start = algorithm.relative_error(stage, judged)
        loss_start = prices.loss_of_swap(path, algorithm.student)
        parameters = [p for p in algorithm.student.parameters() if p.requires_grad]
        if parameters:
            self._descend(algorithm, parameters)
        error, loss = algorithm.relative_error(stage, judged), prices.loss_of_swap(path, algorithm.student)
        if not error < error_start:
            algorithm.student.load_state_dict(start)
            error, loss = error_start, loss_start
        about = Trained(
            error_start, error, loss_start, loss, sum(map(len, self.batches)), time.perf_counter() - begin, ''
        )
        kept = {name: value for name, value in asdict(about).items() if name != 'file'}
        entry = algorithm.plan.entries[i]
        changed = changed_state(algorithm.student, prices.teacher, path)
        block = TrainedBlock(self._teacher, path, dict(entry.target), changed, kept)
        save_file(asdict(block), self.path(i, candidate))

    def _descend(self, algorithm: Recasting, parameters: list[nn.Parameter]) -> None:
        optimizer = torch.optim.Adam(parameters, self.lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(self.batches))
        algorithm.train()
        plain = broken_by_layout(algorithm) is not None
        for inputs in self.batches:
            loss = algorithm.loss(inputs.contiguous() if plain else inputs, None)['loss_block']
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        algorithm.eval()

    def _line(self, one: tuple[int, Candidate], number: int, of: int) -> str:
        found = self.known(*one)
        return (
            f'{one[1].path}: {one[1].name} trained alone ({number} of {of}): relative error '
            f'{found.error_start:.4f} → {found.error:.4f}, loss {found.loss_start:.4f} → {found.loss:.4f}'
        )


def repriced(solved: Sequence[Sequence[Option]], trained: TrainedCandidates) -> list[list[Option]]:
    """Give what was trained the loss that it has, and what was not the same share of its first price as others.

    The share is the geometric mean of loss after training over first price: of the block, where something was trained
    there, else of all blocks.

    Args:
        solved (Sequence[Sequence[Option]]): Per block what it may become, by first prices; ``what`` is a candidate.
        trained (TrainedCandidates): What is known.
    """
    found = [[None if o.what.target is None else trained.known(i, o.what) for o in own] for i, own in enumerate(solved)]
    pairs = [list(zip(own, known, strict=True)) for own, known in zip(solved, found, strict=True)]
    shares = [_share(own) for own in pairs]
    everywhere = _share([pair for own in pairs for pair in own])
    return [
        [replace(o, price=_price(o, known, everywhere if share is None else share)) for o, known in own]
        for own, share in zip(pairs, shares, strict=True)
    ]


def _price(option: Option, known: Trained | None, share: float | None) -> float:
    if option.what.target is None:
        return option.price
    if known is not None:
        return RECAST + max(known.loss, 0.0)
    return option.price * (1.0 if share is None else min(share, 1.0))


def _share(pairs: Sequence[tuple[Option, Trained | None]]) -> float | None:
    """Return the geometric mean of loss after training over first price, None where nothing was trained."""
    own = {k.file: k.loss / o.price for o, k in pairs if k is not None and k.loss > 0 and o.price > 0}
    return geometric_mean(own.values()) if own else None


def recasting_of(
    teacher: nn.Module, input_shape: Shape, recipe: Sequence[Mapping], images: Sequence[Tensor], ridge: float, **options
) -> Recasting:
    """Return a Recasting of a copy of a teacher, for preprocessed images, with a closed-form start on ``images``."""
    start = dict(type='closed_form', images=sum(map(len, images)), ridge=ridge)
    preprocessor = dict(type='BatchPreprocessor', input_shape=tuple(input_shape))
    return Recasting(copy.deepcopy(teacher), list(recipe), start=start, data_preprocessor=preprocessor, **options)


def changed_state(student: nn.Module, teacher: nn.Module, path: str) -> dict[str, Tensor]:
    """Return the tensors of the block at ``path``, and all others in which the student is not the teacher."""
    before = teacher.state_dict()
    return {
        name: value.detach().cpu().clone()
        for name, value in student.state_dict().items()
        if name.startswith(f'{path}.')
        or name not in before
        or before[name].shape != value.shape
        or not torch.equal(before[name], value)
    }
