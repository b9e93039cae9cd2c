# ResNet-34 → ResNet-18 on ImageNet, both torchvision's, the teacher with torchvision's weights. The ReLU behind a
# block's sum is the one that its inner activation is, too: its second call.
_base_ = [
    '../datasets/imagenet.py',
    '../schedules/openmmlab_imagenet.py',
    '../default_runtime.py',
]
networks = dict(
    teacher=dict(type='TorchvisionClassifier', name='resnet34', weights='IMAGENET1K_V1'),
    student=dict(type='TorchvisionClassifier', name='resnet18'),
)
networks['taps'] = {
    role: dict(
        stem='relu',
        stages=['stage1', 'stage2', 'stage3', 'stage4'],
        preacts=[
            dict(path=f'layer{stage}.{count - 1}.relu', call=1, read='input') for stage, count in enumerate(blocks, 1)
        ],
        stage1='layer1',
        stage2='layer2',
        stage3='layer3',
        stage4='layer4',
        last='stage4',
        hint='stage2',
        penultimate=dict(path='fc', read='input'),
    )
    for role, blocks in (('teacher', (3, 4, 6, 3)), ('student', (2, 2, 2, 2)))
}
