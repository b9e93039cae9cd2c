# ResNet-56 with projection shortcuts (option B): the one whose counts the paper prints.
_base_ = './resnet56_cifar10.py'
teacher = dict(backbone=dict(shortcut='B'))
teacher_ckpt = 'work_dirs/backprop_resnet56b_cifar10/student.pth'
