# WRN-28-4 → WRN-16-2 on CIFAR-10, MMRazor's pair for OFD.
_base_ = [
    '../models/wrn40_2_wrn16_2.py',
    '../datasets/cifar10.py',
    '../schedules/openmmlab_cifar.py',
    '../default_runtime.py',
]
networks = dict(
    teacher=dict(backbone=dict(depth=28, widen_factor=4), head=dict(in_channels=256)),
    teacher_ckpt='work_dirs/backprop_wrn28_4_cifar10/student.pth',
)
