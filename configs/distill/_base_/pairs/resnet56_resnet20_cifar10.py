# ResNet-56 → ResNet-20 on CIFAR-10.
_base_ = [
    '../models/resnet56_resnet20.py',
    '../datasets/cifar10.py',
    '../schedules/zoo_cifar.py',
    '../default_runtime.py',
]
networks = dict(teacher_ckpt='work_dirs/backprop_resnet56_cifar10/student.pth')
train_dataloader = dict(batch_size=64)
