# ResNet-20 of He et al. (2016) for 32x32 images: option-A shortcuts, widths 16/32/64.
teacher = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmrecast.CifarResNet', depth=20, block='basic', shortcut='A'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=64),
)
teacher_ckpt = 'work_dirs/backprop_resnet20_cifar10-short/student.pth'
