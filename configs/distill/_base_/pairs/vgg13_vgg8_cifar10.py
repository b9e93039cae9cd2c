# VGG-13 → VGG-8 on CIFAR-10.
_base_ = [
    '../models/vgg13_vgg8.py',
    '../datasets/cifar10.py',
    '../schedules/zoo_cifar.py',
    '../default_runtime.py',
]
networks = dict(teacher_ckpt='work_dirs/backprop_vgg13_cifar10/student.pth')
train_dataloader = dict(batch_size=64)
