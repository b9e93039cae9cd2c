"""Contrastive representation distillation: tell an image's teacher embedding from those of other images."""

import math

import torch
from mmengine.dist import all_gather, all_reduce, broadcast
from torch import Tensor, nn

from mmrecast.losses.checks import check_positive
from mmrecast.registry import MODELS

__all__ = ['CRDLoss']

WHOLE_BANK = 8
"""int: Up to this many times ``neg_num`` images, scores against all are cheaper than fetching the drawn rows."""


@MODELS.register_module()
class CRDLoss(nn.Module):
    """Noise-contrastive loss between embeddings, in both directions.

    Tian et al., "Contrastive Representation Distillation" (ICLR 2020: Eq. 18). A memory holds an embedding of each
    training image for student and teacher. With e the embedding of one side, m_0 what the other side's memory has of
    the same image, m_1…m_K of K others, x_j = exp(e·m_j / τ) / Z, p_n = 1 / ``sample_n``, and Z the mean exp(e·m / τ)
    of the first batch times ``sample_n``:

        −log(x_0 / (x_0 + K p_n + eps)) − Σ_j log(K p_n / (x_j + K p_n + eps)),   mean over the batch, both sides added.

    Then the embeddings go into the memory: m ← (momentum · m + (1 − momentum) · e), of length 1. The gradient goes to
    both embeddings, so ``CRDConnector`` stands on both sides.

    Names, defaults and numbers are MMRazor's, with two differences. ``loss_weight`` counts (MMRazor never applies it).
    The negatives are drawn here, from torch's global generator, so that no special data set is needed: among all images
    not known to be of the same class, which is RepDistiller's mode 'exact' once every image was seen; they are drawn
    independently, where RepDistiller's do not repeat as long as there are enough. Memory, known labels and Z are in
    checkpoints.

    Args:
        loss_weight (float): What the loss is multiplied with. Defaults to 1.0. (RepDistiller: 0.8.)
        temperature (float): τ. Defaults to 0.07.
        neg_num (int): K, negatives per image. Defaults to 16384.
        sample_n (int | None): Images in the training data. Defaults to None: ``check_dataset`` says it. (MMRazor:
            50000.)
        dim_out (int): Length of an embedding. Defaults to 128.
        momentum (float): Share of the memory that an update keeps, in [0, 1). Defaults to 0.5.
        eps (float): Keeps the logarithms finite. Defaults to 1e-7.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        temperature: float = 0.07,
        neg_num: int = 16384,
        sample_n: int | None = None,
        dim_out: int = 128,
        momentum: float = 0.5,
        eps: float = 1e-7,
    ) -> None:
        super().__init__()
        check_positive(self, 'temperature', temperature)
        check_positive(self, 'eps', eps)
        for name, value in dict(neg_num=neg_num, dim_out=dim_out, sample_n=1 if sample_n is None else sample_n).items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f'CRDLoss: {name} must be a whole number of at least 1, got {value!r}')
        if not 0 <= momentum < 1:
            raise ValueError(f'CRDLoss: momentum must lie in [0, 1), got {momentum!r}')
        self.loss_weight, self.temperature, self.neg_num = loss_weight, temperature, neg_num
        self.dim_out, self.momentum, self.eps = dim_out, momentum, eps
        self.register_buffer('memory_s', torch.empty(0, dim_out))  # (sample_n, dim_out), the student's
        self.register_buffer('memory_t', torch.empty(0, dim_out))
        self.register_buffer('labels', torch.empty(0, dtype=torch.int64))  # (sample_n,), −1 until an image was seen
        self.register_buffer('constants', torch.full((2,), -1.0))  # Z of student and teacher, −1 until the first batch
        if sample_n is not None:
            self._allocate(sample_n)
            self._randomise()

    def _allocate(self, sample_n: int) -> None:
        for name in ('memory_s', 'memory_t'):
            setattr(self, name, getattr(self, name).new_empty(sample_n, self.dim_out))
        self.labels = self.labels.new_full((sample_n,), -1)

    def _randomise(self) -> None:
        bound = math.sqrt(3 / self.dim_out)  # rows of length 1 in the mean
        for memory in (self.memory_s, self.memory_t):
            memory.uniform_(-bound, bound)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        saved = state_dict.get(f'{prefix}labels')
        if saved is not None and not len(self.labels):
            self._allocate(len(saved))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def check_dataset(self, num_images: int) -> None:
        """Make room for the training data, or see that there is.

        Args:
            num_images (int): How many there are; ``sample_idx`` counts them from 0.

        Raises:
            ValueError: ``sample_n`` is smaller.
        """
        if not len(self.labels):
            self._allocate(num_images)
            self._randomise()
            for memory in (self.memory_s, self.memory_t):
                broadcast(memory)  # all processes start with the same
        elif len(self.labels) < num_images:
            raise ValueError(
                f'CRDLoss: the memory has room for {len(self.labels)} images, the training data have {num_images}: '
                f'leave sample_n out, or give sample_n={num_images}'
            )

    def forward(
        self, s_feature: Tensor, t_feature: Tensor, *, sample_idx: Tensor, gt_labels: Tensor | None = None
    ) -> Tensor:
        """Return the weighted loss, a scalar, and put the embeddings into the memory.

        Args:
            s_feature, t_feature (Tensor): Embeddings (N, dim_out) of length 1.
            sample_idx (Tensor): Which images of the training data these are, (N,), int64.
            gt_labels (Tensor, optional): Classes (N,), int64. Defaults to None: every image is a class of its own.

        Raises:
            ValueError: The shapes are others, or nothing told how many images there are.
        """
        expected = (len(sample_idx), self.dim_out)
        if s_feature.shape != expected or t_feature.shape != expected:
            raise ValueError(
                f'CRDLoss: embeddings {expected} expected, the student has {tuple(s_feature.shape)}, the teacher '
                f'{tuple(t_feature.shape)}; a CRDConnector on both sides gives them'
            )
        if not len(self.labels):
            raise ValueError('CRDLoss: how many images there are is not known: give sample_n, or call check_dataset')
        with torch.no_grad():
            index = _of_all_processes(sample_idx)
            self.labels[index] = index if gt_labels is None else _of_all_processes(gt_labels)
            picks = torch.cat([sample_idx[:, None], self.draw(sample_idx)], dim=1)  # (N, 1 + neg_num)
        scores = [self._scores(*side, picks) for side in ((s_feature, self.memory_t), (t_feature, self.memory_s))]
        with torch.no_grad():
            seen = torch.stack([x.mean() for x in scores]) * len(self.labels)
            all_reduce(seen, 'mean')
            self.constants.copy_(torch.where(self.constants < 0, seen, self.constants))
            for memory, feature in ((self.memory_s, s_feature), (self.memory_t, t_feature)):
                mixed = self.momentum * memory[index] + (1 - self.momentum) * _of_all_processes(feature)
                memory[index] = mixed / mixed.norm(dim=1, keepdim=True)
        losses = [self._contrast(x / z) for x, z in zip(scores, self.constants.clone(), strict=True)]
        return self.loss_weight * sum(losses)

    def draw(self, sample_idx: Tensor) -> Tensor:
        """Return negatives (N, neg_num) for the images (N,): others, not known to be of their classes."""
        by_class, order = self.labels.sort(stable=True)
        own = self.labels[sample_idx]
        first, end = torch.searchsorted(by_class, own), torch.searchsorted(by_class, own, right=True)
        own_count = (end - first)[:, None]
        others = (len(order) - own_count).clamp(min=1)
        place = torch.randint(2**62, (len(own), self.neg_num), device=own.device) % others
        place = torch.where(place < first[:, None], place, place + own_count)
        return order[place.clamp(max=len(order) - 1)]  # one class alone has no negatives: any image then

    def _scores(self, feature: Tensor, memory: Tensor, picks: Tensor) -> Tensor:
        """Return exp(e · m / τ) (N, 1 + neg_num) at the picked rows, of a copy: the memory changes before backward."""
        feature = feature.to(memory.dtype)
        if len(memory) <= WHOLE_BANK * picks.shape[1]:
            products = (feature @ memory.clone().T).gather(1, picks)
        else:
            rows = memory.index_select(0, picks.flatten()).view(*picks.shape, -1)
            products = torch.bmm(rows, feature[:, :, None]).squeeze(2)
        return (products / self.temperature).exp()

    def _contrast(self, x: Tensor) -> Tensor:
        """Return the mean over the batch for x (N, 1 + neg_num), the positive first."""
        noise = self.neg_num / len(self.labels)
        # log1p: the many x that are small against the noise do not drown in rounding.
        return (torch.log1p((x + self.eps) / noise).sum() - (x[:, 0] / noise).log().sum()) / len(x)


def _of_all_processes(x: Tensor) -> Tensor:
    return torch.cat(all_gather(x.detach().contiguous()))
