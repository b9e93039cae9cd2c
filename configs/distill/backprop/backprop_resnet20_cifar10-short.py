# The teacher of `quickstart.sh --data-root DIR`: five epochs.
_base_ = [
    '../_base_/models/resnet20_cifar10.py',
    '../_base_/datasets/cifar10.py',
    '../_base_/schedules/scratch_cifar.py',
    '../_base_/default_runtime.py',
]
model = dict(type='SingleTeacherDistill', student=_base_.teacher)
train_cfg = dict(stages=[dict(kind='train', iters=1955)])
val_dataloader = dict(dataset=dict(num_samples=1000))
custom_hooks = [dict(type='ResultHook', method='backprop')]
