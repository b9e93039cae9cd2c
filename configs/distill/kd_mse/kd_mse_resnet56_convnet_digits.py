_base_ = [
    '../_base_/models/resnet56_digits.py',
    '../_base_/recipes/resnet_convnet.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/scratch_digits.py',
    '../_base_/default_runtime.py',
]
model = dict(
    type='SingleTeacherDistill',
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
    student=dict(type='RecastStudent', source=_base_.teacher, recipe=_base_.recipe, input_shape=(1, 8, 8)),
    links=[dict(student='logits', teacher='logits', loss=dict(type='MSELoss'))],
)
optim_wrapper = dict(optimizer=dict(lr=0.002))
custom_hooks = [dict(type='ResultHook', method='kd_mse')]
