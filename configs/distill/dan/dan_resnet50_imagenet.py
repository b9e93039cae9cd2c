_base_ = ['../_base_/methods/dan.py', '../_base_/singles/resnet50_imagenet.py']
model = dict(network=_base_.network, gamma=1e-13)
train_cfg = dict(stages=[*_base_.search_stages, *_base_.train_stages])
