_base_ = ['../_base_/methods/sp.py', '../_base_/pairs/vgg13_vgg8_cifar10.py']
model = _base_.networks
