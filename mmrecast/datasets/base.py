"""A dataset held in memory as one uint8 tensor and handed over in whole batches."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mmrecast.utils.digests import digest_tensors


def balanced_subset(labels: np.ndarray, num_samples: int) -> np.ndarray:
    """Choose as many samples of every class as can be, evenly spaced within each class.

    Args:
        labels (np.ndarray): Class of every sample, shape (N,).
        num_samples (int): How many to choose.

    Returns:
        np.ndarray: The chosen indices in ascending order, shape (num_samples,); the same at every call.

    Raises:
        ValueError: ``num_samples`` is not between 1 and N.
    """
    if isinstance(num_samples, bool) or not isinstance(num_samples, int) or not 1 <= num_samples <= len(labels):
        raise ValueError(f'num_samples={num_samples!r}, expected a whole number from 1 to {len(labels)}')
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    members.sort(key=len)  # a class too small for its share leaves the rest to the larger ones
    chosen, remaining = [], num_samples
    for position, indices in enumerate(members):
        share = min(len(indices), remaining // (len(members) - position))
        chosen.append(indices[np.arange(share) * len(indices) // max(share, 1)])
        remaining -= share
    return np.sort(np.concatenate(chosen))


class TensorDataset(Dataset):
    """Images and labels in memory; torch's ``DataLoader`` fetches a whole batch with one call.

    Items are ``dict(inputs=uint8 (C, H, W), gt_label=int64 (), sample_idx=int64 ())``; batches have a leading
    dimension B. ``sample_idx`` counts from 0 to ``len(dataset) - 1``. Use it with :func:`batch_collate`.

    Args:
        images (np.ndarray): uint8, shape (N, C, H, W).
        labels (np.ndarray): Whole numbers from 0 to ``len(classes) - 1``, shape (N,).
        classes (Sequence[str]): Names of the classes.
        num_samples (int | None): Keep a class-balanced subset of this size. Defaults to None, all.

    Raises:
        ValueError: Images and labels do not fit together, a label is outside the classes, or ``num_samples``
            is too large.
    """

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, classes: Sequence[str], num_samples: int | None = None
    ) -> None:
        name, labels = type(self).__name__, np.asarray(labels)
        if images.dtype != np.uint8 or images.ndim != 4 or labels.shape != images.shape[:1]:
            raise ValueError(
                f'{name}: images {images.dtype} {images.shape} with labels {labels.shape}, '
                'expected uint8 (N, C, H, W) with (N,)'
            )
        outside = np.flatnonzero((labels < 0) | (labels >= len(classes)))
        if outside.size:
            first = outside[0]
            raise ValueError(
                f'{name}: label {labels[first]} of sample {first} is outside the {len(classes)} classes '
                f'({outside.size} such labels)'
            )
        if num_samples is not None:
            keep = balanced_subset(labels, num_samples)
            images, labels = images[keep], labels[keep]
        self.images = torch.from_numpy(np.ascontiguousarray(images))  # (N, C, H, W)
        self.labels = torch.from_numpy(labels.astype(np.int64))  # (N,)
        self.metainfo = dict(classes=tuple(classes))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f'sample {index} of a dataset of {len(self)}')
        return {key: value[0] for key, value in self.__getitems__([position]).items()}

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Fetch a batch; torch's ``DataLoader`` calls this instead of fetching sample by sample.

        Args:
            indices (Sequence[int]): B indices from 0 to ``len(self) - 1``.

        Returns:
            dict[str, Tensor]: ``inputs`` uint8 (B, C, H, W), ``gt_label`` and ``sample_idx`` int64 (B,).
        """
        index = torch.as_tensor(indices, dtype=torch.int64)
        return dict(
            inputs=self.images.index_select(0, index),
            gt_label=self.labels.index_select(0, index),
            sample_idx=index,
        )

    def digest(self) -> str:
        """Digest all images and labels: the processes of a run compare theirs by it."""
        return digest_tensors(dict(images=self.images, labels=self.labels))

    def __repr__(self) -> str:
        shape = 'x'.join(map(str, self.images.shape[1:]))
        return f'{type(self).__name__}({len(self)} images of {shape}, {len(self.metainfo["classes"])} classes)'
