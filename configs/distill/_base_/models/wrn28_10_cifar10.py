# WRN-28-10 of Zagoruyko and Komodakis (2016).
teacher = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmrecast.WideResNet', depth=28, widen_factor=10),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=640),
)
teacher_ckpt = 'work_dirs/backprop_wrn28_10_cifar10/student.pth'
