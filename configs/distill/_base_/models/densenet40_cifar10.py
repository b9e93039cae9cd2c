# DenseNet-BC-40 of Huang et al. (2017) with growth rate 12, a small relative of DenseNet-BC-100.
teacher = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmrecast.CifarDenseNet', depth=40),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=132),
)
teacher_ckpt = 'work_dirs/backprop_densenet40_cifar10-short/student.pth'
