# VGG-8 with BN and one hidden layer, a small relative of VGG-16.
teacher = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmrecast.CifarVGG', depth=8),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=512),
)
teacher_ckpt = 'work_dirs/backprop_vgg8_cifar10-short/student.pth'
