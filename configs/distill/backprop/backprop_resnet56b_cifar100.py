_base_ = [
    '../_base_/models/resnet56b_cifar100.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/teacher_cifar.py',
    '../_base_/default_runtime.py',
]
model = dict(type='SingleTeacherDistill', student=_base_.teacher)
custom_hooks = [dict(type='ResultHook', method='backprop')]
