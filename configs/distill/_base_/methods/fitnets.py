# FitNets (Romero et al., 2015) in its two phases: the student up to `hint` on the hint, then KD. The hint's weight and
# regressor are those of RepDistiller in one stage, the second phase is its KD.
_base_ = '../schedules/pretrain_cifar.py'
model = dict(
    type='SingleTeacherDistill',
    task_loss=dict(type='CrossEntropyLoss', loss_weight=0.1),
    links=[
        dict(
            student='hint',
            teacher='hint',
            connector=dict(type='ConvModuleConnector', norm_cfg=dict(type='BN')),
            loss=dict(type='MSELoss', loss_weight=100.0),
            stage='pretrain',
            name='hint',
        ),
        dict(student='logits', teacher='logits', loss=dict(type='KLDivergence', tau=4.0, loss_weight=0.9)),
    ],
)
custom_hooks = [dict(type='ResultHook', method='fitnets')]
