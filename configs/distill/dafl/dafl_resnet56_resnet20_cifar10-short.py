_base_ = ['../_base_/methods/dafl.py', '../_base_/pairs/resnet56_resnet20_cifar10-short.py']
model = _base_.networks
train_cfg = dict(stages=[dict(_base_.data_free_stages[0], iters=800)])
