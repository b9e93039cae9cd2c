# ResNet-83: the bottleneck variant of ResNet-56 for 32x32 images, 27 bottlenecks with inner widths 16/32/64.
teacher = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmrecast.CifarResNet', depth=83, block='bottleneck', shortcut='B'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=256),
)
teacher_ckpt = 'work_dirs/backprop_resnet83_cifar10/student.pth'
