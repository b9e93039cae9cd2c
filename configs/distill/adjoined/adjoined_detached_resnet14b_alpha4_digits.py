_base_ = ['../_base_/methods/adjoined_detached.py', '../_base_/singles/resnet14b_digits.py']
model = dict(network=_base_.network, alpha=4, above=_base_.above)
