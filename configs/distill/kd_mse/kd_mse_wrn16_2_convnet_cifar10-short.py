_base_ = [
    '../_base_/models/wrn16_2_cifar10.py',
    '../_base_/recipes/wrn_convnet.py',
    '../_base_/budgets/wrn16_2_convnet.py',
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
train_cfg = dict(stages=_base_.scratch_stages)
val_dataloader = dict(dataset=dict(num_samples=1000))
custom_hooks = [dict(type='ResultHook', method='kd_mse')]
