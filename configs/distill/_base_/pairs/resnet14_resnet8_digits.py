# ResNet-14 → ResNet-8 on the digits, in seconds: 100 iterations of 128 images.
_base_ = [
    '../models/resnet14_resnet8.py',
    '../datasets/digits.py',
    '../schedules/zoo_short.py',
    '../default_runtime.py',
]
networks = dict(teacher_ckpt='work_dirs/backprop_resnet14_digits/student.pth')
train_stages = [dict(kind='train', iters=100)]
train_cfg = dict(stages=train_stages)
short_pretrain = dict(iters=12)
rest_stages = [dict(kind='train', iters=88)]
recasting_stages = [
    dict(kind='recast', blocks='all', iters=10, optim_wrapper=_base_.adam),
    dict(kind='finetune', iters=70, optim_wrapper=_base_.adam),
]
