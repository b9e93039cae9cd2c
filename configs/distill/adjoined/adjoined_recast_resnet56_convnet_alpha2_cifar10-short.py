# Recast first, then adjoin: without moving the trained network towards its half.
_base_ = ['../_base_/methods/adjoined_detached.py', '../_base_/singles/recast_resnet56_convnet_cifar10-short.py']
model = dict(network=_base_.network, alpha=2, above=_base_.above)
