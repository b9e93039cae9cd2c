# KD (Hinton et al., 2015); temperature and weights of RepDistiller: 0.1 of the labels, 0.9 of the teacher.
model = dict(
    type='SingleTeacherDistill',
    task_loss=dict(type='CrossEntropyLoss', loss_weight=0.1),
    links=[dict(student='logits', teacher='logits', loss=dict(type='KLDivergence', tau=4.0, loss_weight=0.9))],
)
custom_hooks = [dict(type='ResultHook', method='kd')]
