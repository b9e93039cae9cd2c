# The student of a recasting, ResNet-56 → 27 convolutions, with its weights: at a fifth of the rate for new networks.
_base_ = './resnet20b_cifar10-short.py'
network = 'work_dirs/recasting_resnet56_convnet_cifar10-short/student.pth'
optim_wrapper = dict(optimizer=dict(lr=0.01))
