# VGG-13 → VGG-8 on CIFAR-100.
_base_ = [
    '../models/vgg13_vgg8.py',
    '../datasets/cifar100.py',
    '../schedules/zoo_cifar.py',
    '../default_runtime.py',
]
networks = dict(
    teacher=dict(head=dict(num_classes=100)),
    student=dict(head=dict(num_classes=100)),
    teacher_ckpt='work_dirs/backprop_vgg13_cifar100/student.pth',
)
train_dataloader = dict(batch_size=64)
