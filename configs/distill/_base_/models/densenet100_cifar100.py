_base_ = './densenet100_cifar10.py'
teacher = dict(head=dict(num_classes=100))
teacher_ckpt = 'work_dirs/backprop_densenet100_cifar100/student.pth'
