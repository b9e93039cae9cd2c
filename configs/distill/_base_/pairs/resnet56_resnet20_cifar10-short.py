# ResNet-56 → ResNet-20 on CIFAR-10 for two cores. Every iteration sees 128 images.
_base_ = [
    '../models/resnet56_resnet20.py',
    '../datasets/cifar10.py',
    '../schedules/zoo_short.py',
    '../default_runtime.py',
]
networks = dict(teacher_ckpt='work_dirs/backprop_resnet56_cifar10/student.pth')
train_dataloader = dict(drop_last=True)
val_dataloader = dict(dataset=dict(num_samples=1000))
