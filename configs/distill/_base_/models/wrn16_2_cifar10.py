# WRN-16-2 of Zagoruyko and Komodakis (2016), a small relative of WRN-28-10.
teacher = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmrecast.WideResNet', depth=16, widen_factor=2),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=128),
)
teacher_ckpt = 'work_dirs/backprop_wrn16_2_cifar10-short/student.pth'
