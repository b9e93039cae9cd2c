_base_ = [
    '../_base_/models/resnet56_digits.py',
    '../_base_/recipes/resnet_convnet.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/recasting_digits.py',
    '../_base_/default_runtime.py',
]
model = dict(
    type='Recasting',
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
    recipe=_base_.recipe,
    start=dict(type='closed_form', images=384, ridge=1e-2),
)
custom_hooks = [dict(type='ResultHook', method='recasting')]
