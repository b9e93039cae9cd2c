"""Batches of a loader: some of them, the rest of them, how large they are."""

from collections.abc import Iterator, Sequence
from itertools import islice

from mmengine.dataset import InfiniteSampler
from torch.utils.data import DataLoader, IterableDataset


def evenly_spaced(loader: DataLoader, images: int) -> Iterator[dict | Sequence]:
    """Yield raw batches of evenly spaced ``images`` of a loader's data (of the first ones, where it has no length)."""
    if not images:
        return
    dataset = loader.dataset
    if isinstance(dataset, IterableDataset):
        yield from islice(loader, -(-images // (loader.batch_size or 1)))
        return
    count = min(images, len(dataset))
    indices = [i * len(dataset) // count for i in range(count)]
    chunks = [indices[i : i + 256] for i in range(0, count, 256)]
    yield from DataLoader(dataset, batch_sampler=chunks, collate_fn=loader.collate_fn)


def loader_from(loader: DataLoader, batch: int) -> DataLoader:
    """Return a loader of the epoch's batches from number ``batch`` on; those before are not loaded."""
    if not batch or isinstance(loader.dataset, IterableDataset):
        return loader
    return DataLoader(
        loader.dataset, batch_sampler=list(loader.batch_sampler)[batch:], num_workers=loader.num_workers,
        collate_fn=loader.collate_fn, pin_memory=loader.pin_memory, worker_init_fn=loader.worker_init_fn,
    )  # fmt: skip


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
