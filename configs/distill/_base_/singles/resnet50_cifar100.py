# ResNet-50 on CIFAR-100, mmpretrain's.
_base_ = './resnet18_cifar100.py'
network = dict(backbone=dict(depth=50), head=dict(in_channels=2048))
