_base_ = ['../_base_/methods/dist.py', '../_base_/pairs/resnet34_resnet18_imagenet.py']
model = _base_.networks
