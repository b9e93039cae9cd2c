_base_ = ['../_base_/methods/backprop.py', '../_base_/singles/resnet18_cifar100.py']
model = dict(student=_base_.network)
