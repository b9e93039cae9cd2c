_base_ = [
    '../_base_/models/densenet100_cifar100.py',
    '../_base_/recipes/densenet_basic.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/scratch_cifar.py',
    '../_base_/default_runtime.py',
]
model = dict(
    type='SingleTeacherDistill',
    student=dict(type='RecastStudent', source=_base_.teacher, recipe=_base_.recipe),
)
custom_hooks = [dict(type='ResultHook', method='backprop')]
