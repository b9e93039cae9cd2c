_base_ = ['../_base_/methods/born_again.py', '../_base_/pairs/resnet56_resnet20_cifar10.py']
model = dict(
    student=_base_.networks.teacher,
    teacher=_base_.networks.teacher,
    teacher_ckpt=_base_.networks.teacher_ckpt,
)
