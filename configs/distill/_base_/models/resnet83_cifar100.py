_base_ = './resnet83_cifar10.py'
teacher = dict(head=dict(num_classes=100))
teacher_ckpt = 'work_dirs/backprop_resnet83_cifar100/student.pth'
