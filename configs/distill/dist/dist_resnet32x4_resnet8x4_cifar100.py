_base_ = ['../_base_/methods/dist.py', '../_base_/pairs/resnet32x4_resnet8x4_cifar100.py']
model = _base_.networks
