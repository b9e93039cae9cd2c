# DeiT (Touvron et al., 2021), hard distillation: half of the labels at the class token's head, smoothed by 0.1, half of
# the teacher's decision at the distillation token's. For students with mmpretrain's DeiTClsHead.
model = dict(
    type='SingleTeacherDistill',
    task_loss=None,
    links=[
        dict(
            student='head.layers.head',
            loss=dict(type='CrossEntropyLoss', loss_weight=0.5, label_smoothing=0.1),
            name='class_token',
        ),
        dict(
            student='head.layers.head_dist',
            teacher='logits',
            loss=dict(type='HardDistillationLoss', loss_weight=0.5),
            name='distillation_token',
        ),
    ],
)
custom_hooks = [dict(type='ResultHook', method='deit')]
