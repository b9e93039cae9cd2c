_base_ = ['../_base_/methods/crd.py', '../_base_/pairs/resnet50_resnet18_cifar10.py']
model = _base_.networks
