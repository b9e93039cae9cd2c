_base_ = ['../_base_/methods/dist.py', '../_base_/pairs/vgg13_vgg8_cifar10.py']
model = _base_.networks
