"""A data-free problem on the digits that trains in seconds, for tests; commands in subprocesses import it, too."""

import copy

from mmengine.hooks import Hook
from tiny import SHAPE, classifier, preprocessor
from torch import Tensor, nn

from mmrecast.registry import HOOKS, MODELS

LOGITS = dict(student='logits', teacher='logits')
STAGES = {side: dict(stages=[f'backbone.layer{i}' for i in (1, 2, 3)]) for side in ('student', 'teacher')}
GENERATOR = dict(img_size=8, latent_dim=16, hidden_channels=16, out_channels=1)
METHODS = dict(
    dafl=dict(
        type='DAFLDataFreeDistillation',
        generator=dict(type='DAFLGenerator', **GENERATOR),
        links=[dict(LOGITS, loss=dict(type='KLDivergence'))],
        generator_links=[
            dict(teacher='logits', loss=dict(type='OnehotLikeLoss', loss_weight=0.05), name='one_hot'),
            dict(teacher='logits', loss=dict(type='InformationEntropyLoss', loss_weight=5.0), name='entropy'),
            dict(teacher='neck', loss=dict(type='ActivationLoss', loss_weight=0.01), name='activation'),
        ],
    ),
    dfad=dict(
        type='DataFreeDistillation',
        generator=dict(type='DAFLGenerator', bn_eps=1e-5, **GENERATOR),
        links=[dict(LOGITS, loss=dict(type='L1Loss'))],
        generator_links=[dict(LOGITS, loss=dict(type='DiscrepancyLoss', loss_weight=-1.0))],
        student_iter=5,
        student_train_first=True,
    ),
    zskt=dict(
        type='DataFreeDistillation',
        generator=dict(type='ZSKTGenerator', **GENERATOR),
        taps=STAGES,
        links=[
            dict(LOGITS, loss=dict(type='KLDivergence', reduction='mean')),
            dict(student='stages', teacher='stages', loss=dict(type='ATLoss', loss_weight=250.0), name='attention'),
        ],
        generator_links=[
            dict(LOGITS, loss=dict(type='KLDivergence', reduction='mean', loss_weight=-1.0, teacher_detach=False))
        ],
        student_iter=4,
        share_images=True,
    ),
)


def adam(rate: float, **options) -> dict:
    return dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=rate), **options)


RATES = dict(student=adam(3e-3), generator=adam(1e-3))


def data_free(method: str = 'dfad', **changes) -> dict:
    """Return the config of a method's algorithm; ``changes`` replace arguments."""
    networks = dict(student=classifier(), teacher=classifier(), data_preprocessor=preprocessor())
    return copy.deepcopy(METHODS[method] | networks | changes)


@MODELS.register_module()
class PlainGenerator(nn.Module):
    """Noise → images through one linear layer: no BatchNorm, so that the number of processes makes no difference."""

    def __init__(self, latent_dim: int = 6) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.linear = nn.Linear(latent_dim, SHAPE[0] * SHAPE[1] * SHAPE[2])

    def forward(self, noise: Tensor) -> Tensor:
        return self.linear(noise).view(-1, *SHAPE)


@HOOKS.register_module()
class KeepLosses(Hook):
    """Keep what every step returns in ``KeepLosses.steps``, which is emptied when a run begins."""

    steps: list[dict] = []

    def before_train(self, runner) -> None:
        self.steps.clear()

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        self.steps.append({name: float(value) for name, value in outputs.items()})
