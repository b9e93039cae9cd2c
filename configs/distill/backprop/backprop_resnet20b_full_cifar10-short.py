_base_ = ['../_base_/methods/backprop.py', '../_base_/singles/resnet20b_cifar10-short.py']
model = dict(student=_base_.network)
