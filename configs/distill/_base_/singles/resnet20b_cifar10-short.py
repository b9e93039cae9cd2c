# ResNet-20 with projection shortcuts (option B) on CIFAR-10 for two cores, widths 16/32/64: what is wider than 16
# narrows. 800 iterations of 128 images; DAN spends 300 of them on its search, in which τ falls from 15 to 0.16.
_base_ = [
    '../datasets/cifar10.py',
    '../schedules/zoo_short.py',
    '../default_runtime.py',
]
network = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmrecast.CifarResNet', depth=20, block='basic', shortcut='B'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=64),
)
above = 16
falling_tau = dict(type='ExponentialParamScheduler', param_name='tau', gamma=0.985, by_epoch=False)
search_stages = [dict(kind='search', iters=300, param_scheduler=[_base_.param_scheduler, falling_tau])]
rest_stages = [dict(kind='train', iters=500)]
train_dataloader = dict(drop_last=True)
val_dataloader = dict(dataset=dict(num_samples=1000))
