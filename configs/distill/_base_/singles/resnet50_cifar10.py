# ResNet-50 on CIFAR-10, mmpretrain's.
_base_ = './resnet18_cifar10.py'
network = dict(backbone=dict(depth=50), head=dict(in_channels=2048))
