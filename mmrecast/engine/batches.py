"""Batches of a loader: some of them, the rest of them, how large they are."""

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice

from mmengine.dataset import DefaultSampler, InfiniteSampler, worker_init_fn
from torch.utils.data import DataLoader, IterableDataset, SequentialSampler


def evenly_spaced(loader: DataLoader, images: int, besides: int = 0) -> Iterator[dict | Sequence]:
    """Yield raw batches of evenly spaced ``images`` of a loader's data (of the first ones, where it has no length).

    Those that ``evenly_spaced(loader, besides)`` yields are left out.
    """
    if not images:
        return
    dataset = loader.dataset
    if isinstance(dataset, IterableDataset):
        first, number = (-(-n // (loader.batch_size or 1)) for n in (besides, images))
        yield from islice(loader, first, first + number)
        return
    left: Sequence[int] = range(len(dataset))
    if besides:
        taken = set(_spaced(left, besides))
        left = [i for i in left if i not in taken]
    indices = _spaced(left, images)
    count = len(indices)
    chunks = [indices[i : i + 256] for i in range(0, count, 256)]
    yield from DataLoader(dataset, batch_sampler=chunks, collate_fn=loader.collate_fn)


def _spaced(numbers: Sequence[int], count: int) -> list[int]:
    count = min(count, len(numbers))
    return [numbers[i * len(numbers) // count] for i in range(count)]


def loader_from(loader: DataLoader, batch: int) -> DataLoader:
    """Return a loader of the epoch's batches from number ``batch`` on; those before are not loaded."""
    if not batch or isinstance(loader.dataset, IterableDataset):
        return loader
    return DataLoader(
        loader.dataset, batch_sampler=list(loader.batch_sampler)[batch:], num_workers=loader.num_workers,
        collate_fn=loader.collate_fn, pin_memory=loader.pin_memory, worker_init_fn=loader.worker_init_fn,
    )  # fmt: skip


def for_one_process(loader: DataLoader, seed: int) -> DataLoader:
    """Return a loader of the same data that gives whole batches to a process for itself, whichever that is.

    Args:
        loader (DataLoader): A loader whose batches the processes of a run share.
        seed (int): What random numbers that its worker processes draw go by.

    Raises:
        ValueError: Its sampler or its batches are none that are known to depend on seed and epoch alone.
    """
    sampler = copy.copy(loader.sampler)
    if type(sampler) is not DefaultSampler or loader.batch_size is None:
        found = type(sampler if loader.batch_size is not None else loader.batch_sampler).__name__
        raise ValueError(f'parallel=True needs a DefaultSampler and a batch_size, got {found}')
    sampler.rank, sampler.world_size = 0, 1
    sampler.num_samples = sampler.total_size = len(loader.dataset)
    start = partial(worker_init_fn, num_workers=loader.num_workers, rank=0, seed=seed)
    return DataLoader(
        loader.dataset, batch_size=loader.batch_size, sampler=sampler, drop_last=loader.drop_last,
        num_workers=loader.num_workers, collate_fn=loader.collate_fn, pin_memory=loader.pin_memory,
        worker_init_fn=start if loader.num_workers else None,
    )  # fmt: skip


def batch_at(loader: DataLoader, epoch: int, number: int) -> tuple[list[int], dict | Sequence] | None:
    """Return the samples of batch ``number`` of an epoch and the batch; None where its order cannot come again."""
    if isinstance(loader.dataset, IterableDataset) or loader.batch_sampler is None:
        return None
    if not isinstance(loader.sampler, DefaultSampler | SequentialSampler):
        return None
    for part in (loader.sampler, loader.dataset):
        if hasattr(part, 'set_epoch'):
            part.set_epoch(epoch)
    indices = next(islice(loader.batch_sampler, number, None))
    (batch,) = DataLoader(loader.dataset, batch_sampler=[indices], collate_fn=loader.collate_fn)
    return indices, batch


def counted(batches: Iterator[dict], sizes: list[int]) -> Iterator[dict]:
    """Pass batches on and note their sizes: what a closed-form start reads, too, counts as seen."""
    for batch in batches:
        sizes.append(batch_size(batch))
        yield batch


def batch_size(data: dict | Sequence) -> int:
    """Return how many images a batch has."""
    return len(data['inputs'] if isinstance(data, dict) else data[0])


def check_loader(loader: DataLoader) -> None:
    """Refuse training data that do not come in epochs of a known number of batches."""
    if isinstance(getattr(loader, 'sampler', None), InfiniteSampler):
        raise ValueError('InfiniteSampler has no epochs, which stages count: use DefaultSampler')
    try:
        batches = len(loader)
    except TypeError:
        raise ValueError(f'{type(loader.dataset).__name__} has no length: give the training data a __len__') from None
    if not batches:
        raise ValueError('the training data gives no batch: it is smaller than one batch and drop_last is set')
