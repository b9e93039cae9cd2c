_base_ = ['../_base_/methods/fsp.py', '../_base_/pairs/resnet56_resnet20_cifar10-short.py']
model = _base_.networks
train_cfg = dict(stages=[dict(_base_.pretrain_stages[0], **_base_.short_pretrain), *_base_.rest_stages])
