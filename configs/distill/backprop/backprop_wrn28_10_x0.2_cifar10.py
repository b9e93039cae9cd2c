_base_ = [
    '../_base_/models/wrn28_10_cifar10.py',
    '../_base_/recipes/wrn_x0.2.py',
    '../_base_/datasets/cifar10.py',
    '../_base_/schedules/scratch_cifar.py',
    '../_base_/default_runtime.py',
]
model = dict(
    type='SingleTeacherDistill',
    student=dict(type='RecastStudent', source=_base_.teacher, recipe=_base_.recipe),
)
custom_hooks = [dict(type='ResultHook', method='backprop')]
