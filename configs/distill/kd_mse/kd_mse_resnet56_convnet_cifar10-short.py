# As many images as recasting_resnet56_convnet_cifar10-short.py, those that its starts read included.
_base_ = './kd_mse_resnet56_convnet_cifar10.py'
train_cfg = dict(stages=[dict(kind='train', iters=3011)])
