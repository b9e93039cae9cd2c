"""From a batch as loaded to normalised, augmented float images on the device."""

from collections.abc import Mapping, Sequence

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from mmrecast.registry import MODELS

from .crop_flip import crop_flip, draw


@MODELS.register_module()
class BatchPreprocessor(BaseDataPreprocessor):
    """Move a batch to the device, crop and flip it when training, and normalise it.

    All of it works on whole batches. Images travel as they are (uint8) and become float on the device. Zeros
    are padded before normalisation, as per-image pipelines do. What happens to an image depends on ``seed``,
    the epoch and its ``sample_idx`` only: it is the same for any batch size, order and number of processes.

    Batches are understood in three forms: ``dict(inputs, gt_label, sample_idx)`` of this package's datasets,
    pairs ``(images, labels)`` of a plain torch ``DataLoader``, mmpretrain's ``dict(inputs, data_samples)``.
    Without ``sample_idx`` the position in the epoch's stream of images takes its place.

    Args:
        input_shape (Sequence[int]): Shape of one image, (C, H, W). Defaults to (3, 32, 32).
        mean (Sequence[float] | None): Mean per channel in the units of the images, 0..255 for uint8. Defaults
            to None: images that come normalised stay as they are.
        std (Sequence[float] | None): Standard deviation per channel, given exactly when ``mean`` is.
            Defaults to None.
        crop_padding (int): Zeros added on every side before a random crop of the old size. Defaults to 0.
        flip (bool): Whether to mirror one half of the images, left to right. Defaults to False.
        seed (int): Seed of crop and flip. Defaults to 0.
        non_blocking (bool): Whether the copy to the device may overlap with computation. Defaults to False.
        to_rgb (bool): Whether images come as BGR, as OpenCV and so mmpretrain's transforms give them, and are to be
            turned into RGB. Defaults to False.
        channels_last (bool): Whether images are handed over with channels innermost in memory, which convolutions keep
            up whatever the layout of their weights, and often are faster with. Defaults to False.
        views (int | None): How many different crops and flips an image has: epoch e has those of epoch e mod ``views``,
            so that what a teacher makes of them can be kept. Defaults to None: new ones in every epoch.

    Raises:
        ValueError: An argument is out of range, or a batch has images of another shape.
        TypeError: A batch is of an unknown form.

    Examples:
        >>> preprocessor = BatchPreprocessor((3, 32, 32), mean=[125.3, 123.0, 113.9], std=[63.0, 62.1, 66.7],
        ...                                  crop_padding=4, flip=True)
        >>> batch = dict(inputs=torch.zeros(8, 3, 32, 32, dtype=torch.uint8), gt_label=torch.arange(8))
        >>> preprocessor(batch, training=True)['inputs'].dtype
        torch.float32
    """

    def __init__(
        self,
        input_shape: Sequence[int] = (3, 32, 32),
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        crop_padding: int = 0,
        flip: bool = False,
        seed: int = 0,
        non_blocking: bool = False,
        to_rgb: bool = False,
        channels_last: bool = False,
        views: int | None = None,
    ) -> None:
        super().__init__(non_blocking)
        self.input_shape = tuple(input_shape)
        if len(self.input_shape) != 3 or not all(isinstance(n, int) and n > 0 for n in self.input_shape):
            raise ValueError(f'input_shape={self.input_shape}, expected three positive whole numbers (C, H, W)')
        if isinstance(crop_padding, bool) or not isinstance(crop_padding, int) or crop_padding < 0:
            raise ValueError(f'crop_padding={crop_padding!r}, expected a whole number of at least 0')
        if (mean is None) != (std is None):
            raise ValueError(f'mean={mean} with std={std}, expected both or neither')
        if to_rgb and self.input_shape[0] != 3:
            raise ValueError(f'to_rgb needs three channels, but input_shape is {self.input_shape} (C, H, W)')
        if views is not None and (isinstance(views, bool) or not isinstance(views, int) or views < 1):
            raise ValueError(
                f'views={views!r}, expected a whole number of at least 1, or None for new ones every epoch'
            )
        self.to_rgb, self.channels_last, self.views = bool(to_rgb), bool(channels_last), views
        self.crop_padding, self.flip, self.seed = crop_padding, bool(flip), int(seed)
        self.register_buffer('mean', self._per_channel('mean', mean), persistent=False)
        self.register_buffer('std', self._per_channel('std', std), persistent=False)
        if std is not None and not all(value > 0 for value in std):
            raise ValueError(f'std={list(std)}, expected positive numbers')
        self.set_epoch(0)

    def _per_channel(self, name: str, values: Sequence[float] | None) -> Tensor | None:
        if values is None:
            return None
        if len(values) != self.input_shape[0]:
            channels = f'input_shape {self.input_shape} has {self.input_shape[0]} channels'
            raise ValueError(f'{name} has {len(values)} values, but {channels}')
        return torch.tensor(list(values), dtype=torch.float32).view(-1, 1, 1)

    @property
    def view(self) -> int | None:
        """int | None: Which of the repeated versions of every image this epoch has, None where none is repeated."""
        if not (self.crop_padding or self.flip):
            return 0
        return None if self.views is None else self.epoch % self.views

    def set_epoch(self, epoch: int, seen: int = 0) -> None:
        """Choose the random numbers of an epoch.

        Args:
            epoch (int): Epoch, from 0.
            seen (int): Images of this epoch that were already used; it matters only to a run resumed within
                an epoch on batches that have no ``sample_idx``. Defaults to 0.
        """
        self.epoch, self.seen = int(epoch), int(seen)

    def forward(self, data: Mapping | Sequence, training: bool = False) -> dict:
        """Prepare one batch.

        Args:
            data (Mapping | Sequence): A batch in one of the three forms above, N images.
            training (bool): Whether to crop and flip. Defaults to False.

        Returns:
            dict: ``inputs`` float32 (N, C, H, W); ``data_samples``, a dict of ``gt_label`` int64 (N,) and
            ``sample_idx`` int64 (N,), each None where the batch has none, and in training the images' ``view``.

        Raises:
            ValueError: Images of another shape than ``input_shape``, or labels of another number than images.
            TypeError: A batch of an unknown form.
        """
        images, labels, sample_idx = self._unpack(data)
        images, labels, sample_idx = (self.cast_data(part) for part in (images, labels, sample_idx))
        if tuple(images.shape[1:]) != self.input_shape:
            shape = tuple(images.shape[1:])
            raise ValueError(f'images have shape {shape}, but input_shape is {self.input_shape} (C, H, W)')
        if labels is not None and labels.shape != images.shape[:1]:
            raise ValueError(f'labels of shape {tuple(labels.shape)} for {len(images)} images')
        if self.to_rgb:
            images = images.flip(1)
        if training and (self.crop_padding or self.flip):
            keys = sample_idx
            if keys is None:
                keys = torch.arange(self.seen, self.seen + len(images), device=images.device)
                self.seen += len(images)
            epoch = self.epoch if self.view is None else self.view
            choice = draw(self.seed, epoch, keys, self.crop_padding, self.flip)
            images = crop_flip(images, *choice, self.crop_padding)
        if self.mean is not None:
            images = (images - self.mean).div_(self.std)
        images = images.float()
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        samples = dict(gt_label=labels, sample_idx=sample_idx) | (dict(view=self.view) if training else {})
        return dict(inputs=images, data_samples=samples)

    @staticmethod
    def _unpack(data: Mapping | Sequence) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Take images, labels and sample numbers out of a batch of any understood form."""
        if isinstance(data, Mapping) and 'inputs' in data:
            images, extras = data['inputs'], data
            samples = data.get('data_samples')
            if isinstance(samples, Mapping):
                extras = samples
            elif samples is not None:  # mmpretrain's list of DataSample
                extras = {key: _gather(samples, key) for key in ('gt_label', 'sample_idx')}
            labels, sample_idx = extras.get('gt_label'), extras.get('sample_idx')
        elif isinstance(data, Sequence) and len(data) == 2:
            (images, labels), sample_idx = data, None
        else:
            given = f'a dict with {sorted(data)}' if isinstance(data, Mapping) else f'a {type(data).__name__}'
            raise TypeError(f"a batch is {given}, expected a dict with 'inputs' or a pair (images, labels)")
        if isinstance(images, Sequence):
            shapes = sorted({tuple(image.shape) for image in images})
            if len(shapes) > 1:
                raise ValueError(f'images of one batch have shapes {", ".join(map(str, shapes))}, expected one shape')
            images = torch.stack(list(images))
        as_index = [v if v is None else torch.as_tensor(v).to(torch.int64) for v in (labels, sample_idx)]
        return images, *as_index


def _gather(samples: Sequence, key: str) -> Tensor | None:
    """Collect one whole number per DataSample, or None where one of them has none."""
    values = [getattr(sample, key, None) for sample in samples]
    return None if any(value is None for value in values) else torch.tensor([int(value) for value in values])
