# WRN-40-2 → WRN-16-2 on CIFAR-100.
_base_ = [
    '../models/wrn40_2_wrn16_2.py',
    '../datasets/cifar100.py',
    '../schedules/zoo_cifar.py',
    '../default_runtime.py',
]
networks = dict(
    teacher=dict(head=dict(num_classes=100)),
    student=dict(head=dict(num_classes=100)),
    teacher_ckpt='work_dirs/backprop_wrn40_2_cifar100/student.pth',
)
train_dataloader = dict(batch_size=64)
