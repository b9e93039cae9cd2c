_base_ = ['../_base_/methods/dan.py', '../_base_/singles/resnet20b_cifar10-short.py']
model = dict(network=_base_.network, above=_base_.above, gamma=1e-8)
# 300 iterations are few: choices learn 20 times as fast as weights, and do not decay
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(width_logits=dict(lr_mult=20.0, decay_mult=0.0))))
train_cfg = dict(stages=[*_base_.search_stages, *_base_.rest_stages])
