_base_ = ['../_base_/methods/dan.py', '../_base_/singles/resnet14b_digits.py']
model = dict(network=_base_.network, above=_base_.above, gamma=1e-6)
train_cfg = dict(stages=[*_base_.search_stages, *_base_.rest_stages])
