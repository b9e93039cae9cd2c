# Every block learns from the teacher's input to it, on whichever process is free, before they meet in fine-tuning.
_base_ = './recasting_resnet56_convnet_cifar10-short.py'

model = dict(block_input='teacher')
train_cfg = dict(
    stages=[dict(kind='recast', blocks='all', iters=60, parallel=True), dict(kind='finetune', iters=1173)],
)
