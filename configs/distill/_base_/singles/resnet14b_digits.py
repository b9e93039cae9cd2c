# ResNet-14 with projection shortcuts (option B) on the digits, in seconds: 100 iterations of 128 images, 40 of them for
# DAN's search.
_base_ = [
    '../datasets/digits.py',
    '../schedules/zoo_short.py',
    '../default_runtime.py',
]
network = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmrecast.CifarResNet', depth=14, block='basic', shortcut='B', in_channels=1),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=64),
)
above = 16
train_stages = [dict(kind='train', iters=100)]
falling_tau = dict(type='ExponentialParamScheduler', param_name='tau', gamma=0.9, by_epoch=False)
search_stages = [dict(kind='search', iters=40, param_scheduler=[_base_.param_scheduler, falling_tau])]
rest_stages = [dict(kind='train', iters=60)]
train_cfg = dict(stages=train_stages)
