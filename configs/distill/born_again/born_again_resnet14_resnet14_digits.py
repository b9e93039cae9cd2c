_base_ = ['../_base_/methods/born_again.py', '../_base_/pairs/resnet14_resnet8_digits.py']
model = dict(
    student=_base_.networks.teacher,
    teacher=_base_.networks.teacher,
    teacher_ckpt=_base_.networks.teacher_ckpt,
)
