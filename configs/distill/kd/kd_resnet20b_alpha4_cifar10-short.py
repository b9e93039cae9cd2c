# The narrow network taught by the full one, which was trained alone.
_base_ = ['../_base_/methods/kd.py', '../_base_/singles/resnet20b_cifar10-short.py']
model = dict(
    teacher=_base_.network,
    teacher_ckpt='work_dirs/backprop_resnet20b_full_cifar10-short/student.pth',
    student=dict(
        type='NarrowStudent',
        source=_base_.network,
        alpha=4,
        above=_base_.above,
        input_shape=_base_.data_preprocessor.input_shape,
    ),
)
