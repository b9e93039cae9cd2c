_base_ = ['../_base_/methods/adjoined.py', '../_base_/singles/resnet18_imagenet.py']
model = dict(network=_base_.network, alpha=16)
