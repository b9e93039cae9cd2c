# ResNet-29 of He et al. (2016) for 32x32 images: nine bottlenecks, a small relative of ResNet-83.
teacher = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmrecast.CifarResNet', depth=29, block='bottleneck', shortcut='B'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=256),
)
teacher_ckpt = 'work_dirs/backprop_resnet29_cifar10-short/student.pth'
