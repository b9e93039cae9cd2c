# ResNet-18 on CIFAR-10, mmpretrain's: a 3x3 stem in place of the 7x7 and its pooling, widths 64/128/256/512.
_base_ = [
    '../datasets/cifar10.py',
    '../schedules/adjoined_100epochs.py',
    '../default_runtime.py',
]
network = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='ResNet_CIFAR', depth=18),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=512),
)
train_dataloader = dict(batch_size=32)
