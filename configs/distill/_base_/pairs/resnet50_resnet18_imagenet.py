# ResNet-50 → ResNet-18 on ImageNet; a bottleneck's ReLU is called three times.
_base_ = './resnet34_resnet18_imagenet.py'
networks = dict(
    teacher=dict(name='resnet50'),
    taps=dict(
        teacher=dict(
            preacts=[
                dict(path=f'layer{stage}.{count - 1}.relu', call=2, read='input')
                for stage, count in enumerate((3, 4, 6, 3), 1)
            ]
        )
    ),
)
