# WRN-40-2 → WRN-16-2 on CIFAR-10.
_base_ = [
    '../models/wrn40_2_wrn16_2.py',
    '../datasets/cifar10.py',
    '../schedules/zoo_cifar.py',
    '../default_runtime.py',
]
networks = dict(teacher_ckpt='work_dirs/backprop_wrn40_2_cifar10/student.pth')
train_dataloader = dict(batch_size=64)
