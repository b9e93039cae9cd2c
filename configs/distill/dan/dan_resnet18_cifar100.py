_base_ = ['../_base_/methods/dan.py', '../_base_/singles/resnet18_cifar100.py']
model = dict(network=_base_.network, gamma=1e-10)
train_cfg = dict(stages=[*_base_.search_stages, *_base_.train_stages])
