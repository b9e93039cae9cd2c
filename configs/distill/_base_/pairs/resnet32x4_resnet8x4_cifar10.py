# ResNet-32x4 → ResNet-8x4 on CIFAR-10.
_base_ = [
    '../models/resnet32x4_resnet8x4.py',
    '../datasets/cifar10.py',
    '../schedules/zoo_cifar.py',
    '../default_runtime.py',
]
networks = dict(teacher_ckpt='work_dirs/backprop_resnet32x4_cifar10/student.pth')
train_dataloader = dict(batch_size=64)
