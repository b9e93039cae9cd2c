_base_ = [
    '../_base_/models/resnet29_cifar10.py',
    '../_base_/datasets/cifar10.py',
    '../_base_/schedules/scratch_cifar.py',
    '../_base_/default_runtime.py',
]
model = dict(type='SingleTeacherDistill', student=_base_.teacher)
optim_wrapper = dict(optimizer=dict(lr=0.1))
train_cfg = dict(stages=[dict(kind='train', iters=782)])
val_dataloader = dict(dataset=dict(num_samples=1000))
custom_hooks = [dict(type='ResultHook', method='backprop')]
