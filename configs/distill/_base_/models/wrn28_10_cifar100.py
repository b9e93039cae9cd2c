_base_ = './wrn28_10_cifar10.py'
teacher = dict(head=dict(num_classes=100))
teacher_ckpt = 'work_dirs/backprop_wrn28_10_cifar100/student.pth'
