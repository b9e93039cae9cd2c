_base_ = ['../_base_/methods/backprop.py', '../_base_/singles/resnet50_cifar10.py']
model = dict(student=_base_.network)
