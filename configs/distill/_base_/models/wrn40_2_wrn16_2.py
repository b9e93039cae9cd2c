# WRN-40-2 → WRN-16-2 of Zagoruyko and Komodakis (2016): 6 and 2 blocks a stage. A stage ends with a plain sum; BN and
# ReLU behind it stand in the next stage's first block, behind the last stage in the backbone.
networks = {
    role: dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmrecast.WideResNet', depth=depth, widen_factor=2),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=128),
    )
    for role, depth in (('teacher', 40), ('student', 16))
}
relus = ['backbone.layer2.0.relu1', 'backbone.layer3.0.relu1', 'backbone.relu']
networks['taps'] = {
    role: dict(
        stem='backbone.layer1.0.relu1',
        stages=['stage1', 'stage2', 'stage3'],
        preacts=[dict(path=relu, read='input') for relu in relus],
        stage1=relus[0],
        stage2=relus[1],
        stage3=relus[2],
        last='stage3',
        hint='stage2',
        penultimate=dict(path='head.fc', read='input'),
    )
    for role in ('teacher', 'student')
}
recipe = [
    dict(source='backbone.layer*', target=dict(type='StackedBlocks', block=dict(type='PreActBasicBlock'), depth=2))
]
