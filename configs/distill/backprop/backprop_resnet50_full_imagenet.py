_base_ = ['../_base_/methods/backprop.py', '../_base_/singles/resnet50_imagenet.py']
model = dict(student=_base_.network)
