"""What a generator learns from: how sure, how balanced and how active the teacher is on its images, or how far off
the student.

The gradient of these losses goes through the networks' outputs to the images, so nothing is detached here.
"""

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather, get_dist_info
from torch import Tensor, nn

from mmrecast.losses.checks import check_same_shape
from mmrecast.registry import MODELS

__all__ = ['ActivationLoss', 'DiscrepancyLoss', 'InformationEntropyLoss', 'OnehotLikeLoss']


@MODELS.register_module()
class OnehotLikeLoss(nn.Module):
    """Cross entropy of the teacher's logits against their own largest class (one-hot loss of DAFL, ICCV 2019).

    It is small where the teacher is sure of a class. Name and argument are MMRazor's.

    Args:
        loss_weight (float): What the mean over the batch is multiplied with. Defaults to 1.0.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, preds_T: Tensor) -> Tensor:
        """Return the weighted loss, a scalar.

        Args:
            preds_T (Tensor): The teacher's logits (N, classes).

        Raises:
            ValueError: ``preds_T`` is of another shape.
        """
        _check_logits(self, preds_T)
        return self.loss_weight * F.cross_entropy(preds_T, preds_T.detach().argmax(1))


@MODELS.register_module()
class InformationEntropyLoss(nn.Module):
    """Σ p log10 p of the mean class probabilities p of a batch (information entropy loss of DAFL, ICCV 2019).

    It is smallest, −log10 of the number of classes, where the batch has every class alike. Name and arguments are
    MMRazor's, the decimal logarithm is the authors'.

    Args:
        gather (bool): Whether p is the mean over the images of all processes. Defaults to True.
        loss_weight (float): What the sum is multiplied with. Defaults to 1.0.
    """

    def __init__(self, gather: bool = True, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.gather = gather
        self.loss_weight = loss_weight

    def forward(self, preds_T: Tensor) -> Tensor:
        """Return the weighted loss, a scalar.

        Args:
            preds_T (Tensor): The teacher's logits (N, classes), with ``gather`` as many in every process.

        Raises:
            ValueError: ``preds_T`` is of another shape.
        """
        _check_logits(self, preds_T)
        p = _gathered(preds_T, self.gather).softmax(1).mean(0)
        logarithm = p.clamp_min(torch.finfo(p.dtype).tiny).log10()  # a class that never comes counts nothing
        return self.loss_weight * (p * logarithm).sum()


@MODELS.register_module()
class ActivationLoss(nn.Module):
    """The negative size of the teacher's feature (activation loss of DAFL, ICCV 2019): real images excite it more.

    Name and arguments are MMRazor's.

    Args:
        loss_weight (float): What the size is multiplied with. Defaults to 1.0.
        norm_type (str): 'abs' for the mean of the absolute values, 'norm' for the 2-norm of the whole batch.
            Defaults to 'abs'.

    Raises:
        ValueError: ``norm_type`` is something else.
    """

    def __init__(self, loss_weight: float = 1.0, norm_type: str = 'abs') -> None:
        super().__init__()
        if norm_type not in ('abs', 'norm'):
            raise ValueError(f"ActivationLoss: norm_type must be 'abs' or 'norm', got {norm_type!r}")
        self.loss_weight = loss_weight
        self.norm_type = norm_type

    def forward(self, feat_T: Tensor) -> Tensor:
        """Return the weighted loss, a scalar.

        Args:
            feat_T (Tensor): The teacher's feature, of any shape.
        """
        size = feat_T.abs().mean() if self.norm_type == 'abs' else feat_T.norm()
        return -self.loss_weight * size


@MODELS.register_module()
class DiscrepancyLoss(nn.Module):
    """Mean over all elements of |s − t| (the model discrepancy of DFAD, Fang et al., 2019).

    The value is that of ``L1Loss``, which keeps the gradient from the teacher's side; here it reaches both. A generator
    that is to make the two networks differ has a negative weight.

    Args:
        loss_weight (float): What the mean is multiplied with. Defaults to 1.0.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        """Return the weighted loss, a scalar.

        Args:
            preds_S (Tensor): The student's tensor, of any shape.
            preds_T (Tensor): The teacher's tensor, of the same shape.

        Raises:
            ValueError: The shapes differ: nothing is broadcast.
        """
        check_same_shape(self, preds_S, preds_T)
        return self.loss_weight * F.l1_loss(preds_S, preds_T)


def _check_logits(loss: nn.Module, preds_T: Tensor) -> None:
    if preds_T.dim() != 2:
        raise ValueError(f'{type(loss).__name__}: logits (N, classes) expected, got {tuple(preds_T.shape)}')


def _gathered(logits: Tensor, gather: bool) -> Tensor:
    """Return the logits of all processes; the gradient reaches this one's, times their number.

    Every process computes the same loss, and their gradients are averaged: without that factor the average would be too
    small.
    """
    rank, processes = get_dist_info()
    if not gather or processes == 1:
        return logits
    parts = all_gather(logits.detach().contiguous())
    own = logits.view_as(logits)
    if own.requires_grad:
        own.register_hook(lambda gradient: gradient * processes)
    parts[rank] = own
    return torch.cat(parts)
