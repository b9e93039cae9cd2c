_base_ = './resnet56_cifar10.py'
teacher = dict(head=dict(num_classes=100))
teacher_ckpt = 'work_dirs/backprop_resnet56_cifar100/student.pth'
