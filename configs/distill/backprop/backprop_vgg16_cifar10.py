_base_ = [
    '../_base_/models/vgg16_cifar10.py',
    '../_base_/datasets/cifar10.py',
    '../_base_/schedules/teacher_cifar.py',
    '../_base_/default_runtime.py',
]
model = dict(type='SingleTeacherDistill', student=_base_.teacher)
custom_hooks = [dict(type='ResultHook', method='backprop')]
