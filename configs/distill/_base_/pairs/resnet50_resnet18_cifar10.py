# ResNet-50 → ResNet-18 on CIFAR-10, mmpretrain's; a bottleneck's ReLU is called three times.
_base_ = './resnet34_resnet18_cifar10.py'
networks = dict(
    teacher=dict(backbone=dict(depth=50), head=dict(in_channels=2048)),
    teacher_ckpt='work_dirs/backprop_resnet50_cifar10/student.pth',
    taps=dict(
        teacher=dict(
            preacts=[
                dict(path=f'backbone.layer{stage}.{count - 1}.relu', call=2, read='input')
                for stage, count in enumerate((3, 4, 6, 3), 1)
            ]
        )
    ),
)
