_base_ = ['../_base_/methods/abloss.py', '../_base_/pairs/resnet14_resnet8_digits.py']
model = _base_.networks
train_cfg = dict(stages=[dict(_base_.pretrain_stages[0], **_base_.short_pretrain), *_base_.rest_stages])
