_base_ = ['../_base_/methods/adjoined_detached.py', '../_base_/singles/resnet20b_cifar10-short.py']
model = dict(network=_base_.network, alpha=4, above=_base_.above)
