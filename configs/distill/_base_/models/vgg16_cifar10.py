# VGG-16 with BN and one hidden fully connected layer of 512, for 32x32 images.
teacher = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmrecast.CifarVGG', depth=16),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=512),
)
teacher_ckpt = 'work_dirs/backprop_vgg16_cifar10/student.pth'
