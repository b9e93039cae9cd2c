# ResNet-56 → ResNet-20 of He et al. (2016) for 32x32 images: option-A shortcuts, widths 16/32/64, 9 and 3 blocks a
# stage.
networks = {
    role: dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmrecast.CifarResNet', depth=depth, block='basic', shortcut='A'),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=64),
    )
    for role, depth in (('teacher', 56), ('student', 20))
}
networks['taps'] = {
    role: dict(
        stem='backbone.relu',
        stages=['stage1', 'stage2', 'stage3'],
        preacts=[dict(path=f'backbone.layer{stage}.{last}.relu', read='input') for stage in (1, 2, 3)],
        stage1='backbone.layer1',
        stage2='backbone.layer2',
        stage3='backbone.layer3',
        last='stage3',
        hint='stage2',
        penultimate=dict(path='head.fc', read='input'),
    )
    for role, last in (('teacher', 8), ('student', 2))
}
recipe = [
    dict(
        source='backbone.layer*',
        target=dict(type='StackedBlocks', block=dict(type='BasicBlock', shortcut='pad'), depth=3),
    )
]
