# ResNet-32x4 → ResNet-8x4 on CIFAR-100.
_base_ = [
    '../models/resnet32x4_resnet8x4.py',
    '../datasets/cifar100.py',
    '../schedules/zoo_cifar.py',
    '../default_runtime.py',
]
networks = dict(
    teacher=dict(head=dict(num_classes=100)),
    student=dict(head=dict(num_classes=100)),
    teacher_ckpt='work_dirs/backprop_resnet32x4_cifar100/student.pth',
)
train_dataloader = dict(batch_size=64)
