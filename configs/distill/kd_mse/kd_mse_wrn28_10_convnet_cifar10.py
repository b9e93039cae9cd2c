_base_ = [
    '../_base_/models/wrn28_10_cifar10.py',
    '../_base_/recipes/wrn28_10_convnet.py',
    '../_base_/datasets/cifar10.py',
    '../_base_/schedules/scratch_cifar.py',
    '../_base_/default_runtime.py',
]
model = dict(
    type='SingleTeacherDistill',
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
    student=dict(type='RecastStudent', source=_base_.teacher, recipe=_base_.recipe),
    links=[dict(student='logits', teacher='logits', loss=dict(type='MSELoss'))],
)
custom_hooks = [dict(type='ResultHook', method='kd_mse')]
