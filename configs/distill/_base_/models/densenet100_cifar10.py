# DenseNet-BC-100 of Huang et al. (2017) with growth rate 12.
teacher = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmrecast.CifarDenseNet', depth=100),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=342),
)
teacher_ckpt = 'work_dirs/backprop_densenet100_cifar10/student.pth'
