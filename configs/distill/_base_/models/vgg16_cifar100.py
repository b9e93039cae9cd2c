_base_ = './vgg16_cifar10.py'
teacher = dict(head=dict(num_classes=100))
teacher_ckpt = 'work_dirs/backprop_vgg16_cifar100/student.pth'
