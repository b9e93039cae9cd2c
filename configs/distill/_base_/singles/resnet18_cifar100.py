# ResNet-18 on CIFAR-100, mmpretrain's: a 3x3 stem in place of the 7x7 and its pooling, widths 64/128/256/512.
_base_ = [
    '../datasets/cifar100.py',
    '../schedules/adjoined_200epochs.py',
    '../default_runtime.py',
]
network = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='ResNet_CIFAR', depth=18),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=100, in_channels=512),
)
train_dataloader = dict(batch_size=32)
