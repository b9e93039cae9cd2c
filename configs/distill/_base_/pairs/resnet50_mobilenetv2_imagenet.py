# ResNet-50 → MobileNetV2 on ImageNet, both torchvision's. The student's stages are the last maps of 56, 28, 14 and 7
# pixels; those of its bottlenecks have no activation, so that they are their own pre-activations.
_base_ = [
    '../datasets/imagenet.py',
    '../schedules/openmmlab_imagenet_mobile.py',
    '../default_runtime.py',
]
networks = dict(
    teacher=dict(type='TorchvisionClassifier', name='resnet50', weights='IMAGENET1K_V1'),
    student=dict(type='TorchvisionClassifier', name='mobilenet_v2'),
    taps=dict(
        teacher=dict(
            stem='relu',
            stages=['stage1', 'stage2', 'stage3', 'stage4'],
            preacts=[
                dict(path=f'layer{stage}.{count - 1}.relu', call=2, read='input')
                for stage, count in enumerate((3, 4, 6, 3), 1)
            ],
            stage1='layer1',
            stage2='layer2',
            stage3='layer3',
            stage4='layer4',
            last='stage4',
            hint='stage2',
            penultimate=dict(path='fc', read='input'),
        ),
        student=dict(
            stem='features.0',
            stages=['stage1', 'stage2', 'stage3', 'stage4'],
            preacts=['features.3', 'features.6', 'features.13', 'features.18.1'],
            stage1='features.3',
            stage2='features.6',
            stage3='features.13',
            stage4='features.18',
            last='stage4',
            hint='stage2',
            penultimate=dict(path='classifier', read='input'),
        ),
    ),
)
