_base_ = [
    '../_base_/models/densenet100_cifar100.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/teacher_densenet_cifar.py',
    '../_base_/default_runtime.py',
]
model = dict(type='SingleTeacherDistill', student=_base_.teacher)
train_dataloader = dict(batch_size=64)
custom_hooks = [dict(type='ResultHook', method='backprop')]
