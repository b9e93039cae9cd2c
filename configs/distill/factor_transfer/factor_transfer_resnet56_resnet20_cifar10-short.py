_base_ = ['../_base_/methods/factor_transfer.py', '../_base_/pairs/resnet56_resnet20_cifar10-short.py']
model = _base_.networks
# Adam: at the authors' SGD the paraphraser stays on a plateau for longer than this first phase lasts.
paraphraser_stage = dict(_base_.pretrain_stages[0], **_base_.short_pretrain, optim_wrapper=_base_.adam)
train_cfg = dict(stages=[paraphraser_stage, *_base_.rest_stages])
