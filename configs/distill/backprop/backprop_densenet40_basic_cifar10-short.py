_base_ = [
    '../_base_/models/densenet40_cifar10.py',
    '../_base_/recipes/densenet_basic.py',
    '../_base_/budgets/densenet40_basic.py',
    '../_base_/datasets/cifar10.py',
    '../_base_/schedules/scratch_cifar.py',
    '../_base_/default_runtime.py',
]
model = dict(
    type='SingleTeacherDistill',
    student=dict(type='RecastStudent', source=_base_.teacher, recipe=_base_.recipe),
)
train_cfg = dict(stages=_base_.scratch_stages)
val_dataloader = dict(dataset=dict(num_samples=1000))
custom_hooks = [dict(type='ResultHook', method='backprop')]
