# ResNet-56 → ResNet-20 on CIFAR-100, with projection shortcuts (option B) as RepDistiller has them.
_base_ = [
    '../models/resnet56_resnet20.py',
    '../datasets/cifar100.py',
    '../schedules/zoo_cifar.py',
    '../default_runtime.py',
]
networks = dict(
    teacher=dict(backbone=dict(shortcut='B'), head=dict(num_classes=100)),
    student=dict(backbone=dict(shortcut='B'), head=dict(num_classes=100)),
    teacher_ckpt='work_dirs/backprop_resnet56b_cifar100/student.pth',
)
recipe = [dict(source='backbone.layer*', target=dict(type='StackedBlocks', block=dict(type='BasicBlock'), depth=3))]
train_dataloader = dict(batch_size=64)
