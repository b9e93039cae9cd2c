_base_ = ['./backprop_resnet56_convnet_cifar10.py', '../_base_/budgets/resnet56_convnet.py']
train_cfg = dict(stages=_base_.scratch_stages)
