"""What a teacher makes of images that come again, kept instead of computed anew."""

from collections.abc import Callable, Mapping, Sequence
from logging import INFO

import torch
from mmengine.logging import print_log
from torch import Tensor

MIB = 2**20


class TeacherCache:
    """Outputs of the teacher by view and image, in the memory of the device.

    A batch is looked up if it is of the size that the first one had and all its images are known, else it is computed
    as a whole. So what is looked up was computed in a batch of that size, whatever was in the cache: a run that begins
    again with an empty one, after a resume, gets the same numbers.

    Args:
        mib (int): Bound of its memory in MiB; 0 keeps nothing.

    Raises:
        ValueError: ``mib`` is no whole number of at least 0.
    """

    def __init__(self, mib: int) -> None:
        if isinstance(mib, bool) or not isinstance(mib, int) or mib < 0:
            raise ValueError(f'teacher_cache is a number of MiB, 0 for none, got {mib!r}')
        self.mib, self.num_images = mib, 0
        self.clear()

    def clear(self) -> None:
        """Forget everything: something else is to be kept."""
        self._kept: dict[int, tuple[list[Tensor], Tensor]] = {}  # view → outputs (images, …), which of them are known
        self._whole: set[int] = set()  # views of which all are
        self._batch_size: int | None = None
        self._left, self._told = self.mib * MIB, False
        self.looked_up = self.computed = 0

    def __call__(self, data_samples: Mapping | None, compute: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Return the outputs of a batch, each (N, …).

        Args:
            data_samples (Mapping, optional): What came with the images: ``sample_idx``, their numbers, int64 (N,), and
                ``view``, an int, which version of them it is. A batch without the two is computed.
            compute (Callable): Gives the outputs of the whole batch.
        """
        view, sample_idx = ((data_samples or {}).get(key) for key in ('view', 'sample_idx'))
        if not self.mib or not self.num_images or view is None or sample_idx is None:
            return compute()
        self._batch_size = self._batch_size or len(sample_idx)
        if len(sample_idx) != self._batch_size:
            return compute()
        kept = self._kept.get(view)
        if kept is not None and self._known(view, kept[1], sample_idx):
            self.looked_up += len(sample_idx)
            return tuple(room[sample_idx] for room in kept[0])
        outputs = tuple(output.detach() for output in compute())
        self.computed += len(sample_idx)
        kept = kept or self._place(view, outputs)
        if kept is not None:
            for room, output in zip(kept[0], outputs, strict=True):
                room[sample_idx] = output
            kept[1][sample_idx] = True
        return outputs

    def _known(self, view: int, known: Tensor, sample_idx: Tensor) -> bool:
        """Tell whether all images of a batch are known; a view that is whole is asked once, others wait for a GPU."""
        if view in self._whole:
            return True
        if not known[sample_idx].all():
            return False
        if known.all():
            self._whole.add(view)
        return True

    def _place(self, view: int, outputs: Sequence[Tensor]) -> tuple[list[Tensor], Tensor] | None:
        """Return room for one view of all images, or None where the bound leaves none."""
        needed = self.num_images * sum(output[0].numel() * output.element_size() for output in outputs)
        if needed > self._left:
            if not self._told:
                self._told = True
                print_log(
                    f'teacher_cache: {len(self._kept)} views are kept; another needs {-(-needed // MIB)} MiB of which '
                    f'{self._left // MIB} are left, so the teacher computes it every time',
                    logger='current',
                    level=INFO,
                )
            return None
        self._left -= needed
        rooms = [_room(output, self.num_images) for output in outputs]
        self._kept[view] = rooms, torch.zeros(self.num_images, dtype=torch.bool, device=outputs[0].device)
        return self._kept[view]


def _room(output: Tensor, images: int) -> Tensor:
    """Return room for an output (N, …) of every image, laid out in memory as ``output`` is."""
    room = output.new_empty((images, *output.shape[1:]))
    if output.dim() == 4 and not output.is_contiguous() and output.is_contiguous(memory_format=torch.channels_last):
        room = room.contiguous(memory_format=torch.channels_last)
    return room
