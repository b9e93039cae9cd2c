"""The same distillation steps, made of MMRazor's own classes; importing this file needs MMRazor."""

import copy
from collections.abc import Callable

import mmrazor.models  # noqa: F401 - registers
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.models.losses import CrossEntropyLoss
from mmpretrain.structures import DataSample
from mmrazor.registry import MODELS
from torch import Tensor, nn

HINT = dict(type='L2Loss', loss_weight=100.0, normalize=False, div_element=True)  # a mean of squares


def _recorded(source: str, loss: dict, own: dict, other: dict, connectors: dict | None = None) -> dict:
    """Return a distiller with one loss, whose two arguments are given as ``dict(name=from_student)`` and more."""
    recorder = dict(tap=dict(type='ModuleOutputs', source=source))
    return dict(
        type='ConfigurableDistiller',
        student_recorders=recorder,
        teacher_recorders=recorder,
        distill_losses=dict(loss=loss),
        connectors=connectors,
        loss_forward_mappings=dict(loss={k: dict(v, recorder='tap') for k, v in (own | other).items()}),
    )


def _factor_transfer(width_s: int, width_t: int, phase: str) -> dict:
    paraphraser = dict(type='Paraphraser', in_channel=width_t, out_channel=width_t // 2, phase=phase)
    translator = dict(type='Translator', in_channel=width_s, out_channel=width_t // 2, use_bn=False)
    teachers = dict(from_student=False, connector='paraphraser')
    if phase == 'pretrain':
        loss, connectors = dict(type='L1Loss'), dict(paraphraser=paraphraser)
        own, other = dict(s_feature=teachers), dict(t_feature=dict(from_student=False))
    else:
        loss = dict(type='FTLoss', loss_weight=500.0)
        connectors = dict(connector=translator, paraphraser=paraphraser)
        own, other = dict(s_feature=dict(from_student=True, connector='connector')), dict(t_feature=teachers)
    return _recorded('backbone.layer3', loss, own, other, connectors)


def _fitnets(width_s: int, width_t: int) -> dict:
    regressor = dict(type='ConvModuleConnector', in_channel=width_s, out_channel=width_t, norm_cfg=dict(type='BN'))
    own = dict(s_feature=dict(from_student=True, connector='connector'))
    other = dict(t_feature=dict(from_student=False))
    return _recorded('backbone.layer2', HINT, own, other, dict(connector=regressor))


def _kd() -> dict:
    own, other = dict(preds_S=dict(from_student=True)), dict(preds_T=dict(from_student=False))
    return _recorded('head.fc', dict(type='KLDivergence', tau=4.0, loss_weight=0.9), own, other)


DISTILLERS: dict[str, Callable[[Callable], dict]] = dict(
    kd=lambda widths: _kd(),
    factor_transfer=lambda widths: _factor_transfer(*widths('layer3'), 'train'),
    factor_transfer_pretrain=lambda widths: _factor_transfer(*widths('layer3'), 'pretrain'),
    fitnets=lambda widths: _fitnets(*widths('layer2')),
    fitnets_pretrain=lambda widths: _fitnets(*widths('layer2')),
)
OPTIONS = dict(
    factor_transfer_pretrain=dict(calculate_student_loss=False, student_trainable=False),
    fitnets_pretrain=dict(calculate_student_loss=False),
)


class MMRazorStep:
    """``train_step`` of MMRazor's SingleTeacherDistill on mmpretrain's form of a batch.

    Args:
        method (str): A key of ``DISTILLERS``.
        teacher, student (ImageClassifier): mmpretrain's classifiers; copies are made.
        preprocessing (dict): ``mean`` and ``std``; crop and flip belong to its data pipeline, not to its step.
        optimizer (dict): Config of the optimiser.
        connectors (dict[str, nn.Module]): Modules whose parameters the connectors here start with.
    """

    def __init__(
        self,
        method: str,
        teacher: nn.Module,
        student: nn.Module,
        preprocessing: dict,
        optimizer: dict,
        connectors: dict[str, nn.Module],
    ) -> None:
        teacher, student = copy.deepcopy(teacher), copy.deepcopy(student).requires_grad_(True)
        student.head.loss_module = CrossEntropyLoss(loss_weight=0.1 if method == 'kd' else 1.0)

        def widths(layer: str) -> tuple[int, int]:
            return tuple(getattr(one.backbone, layer)[-1].bn2.num_features for one in (student, teacher))

        with DefaultScope.overwrite_default_scope('mmrazor'):
            cfg = dict(
                type='SingleTeacherDistill',
                distiller=DISTILLERS[method](widths),
                data_preprocessor=ClsDataPreprocessor(preprocessing['mean'], preprocessing['std']),
                **OPTIONS.get(method, {}),
            )
            self.model = MODELS.build(dict(cfg, architecture=student, teacher=teacher))
        for name, connector in self.model.distiller.connectors.items():
            with torch.no_grad():
                for own, given in zip(connector.parameters(), connectors[name].parameters(), strict=True):
                    own.copy_(given)
        self.optim_wrapper = build_optim_wrapper(self.model, dict(type='OptimWrapper', optimizer=optimizer))
        self.optimizer = self.optim_wrapper.optimizer
        self.model.train()

    @staticmethod
    def collate(images: Tensor, labels: Tensor) -> dict:
        """Return images (N, C, H, W) and labels (N,) as its loader would give them."""
        return dict(inputs=list(images), data_samples=[DataSample().set_gt_label(label) for label in labels.tolist()])

    def __call__(self, batch: dict) -> Tensor:
        """Take a step and return the loss."""
        return self.model.train_step(batch, self.optim_wrapper)['loss'].detach()
