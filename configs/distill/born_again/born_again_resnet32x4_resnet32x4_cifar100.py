_base_ = ['../_base_/methods/born_again.py', '../_base_/pairs/resnet32x4_resnet8x4_cifar100.py']
model = dict(
    student=_base_.networks.teacher,
    teacher=_base_.networks.teacher,
    teacher_ckpt=_base_.networks.teacher_ckpt,
)
