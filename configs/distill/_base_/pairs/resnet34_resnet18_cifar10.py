# ResNet-34 → ResNet-18 on CIFAR-10, mmpretrain's: a 3x3 stem in place of the 7x7 and its pooling. The ReLU behind a
# block's sum is the one that its inner activation is, too: its second call.
_base_ = [
    '../datasets/cifar10.py',
    '../schedules/openmmlab_cifar.py',
    '../default_runtime.py',
]
networks = {
    role: dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='ResNet_CIFAR', depth=depth),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=512),
    )
    for role, depth in (('teacher', 34), ('student', 18))
}
networks['teacher_ckpt'] = 'work_dirs/backprop_resnet34_cifar10/student.pth'
networks['taps'] = {
    role: dict(
        stem='backbone.relu',
        stages=['stage1', 'stage2', 'stage3', 'stage4'],
        preacts=[
            dict(path=f'backbone.layer{stage}.{count - 1}.relu', call=1, read='input')
            for stage, count in enumerate(blocks, 1)
        ],
        stage1='backbone.layer1',
        stage2='backbone.layer2',
        stage3='backbone.layer3',
        stage4='backbone.layer4',
        last='stage4',
        hint='stage2',
        penultimate=dict(path='head.fc', read='input'),
    )
    for role, blocks in (('teacher', (3, 4, 6, 3)), ('student', (2, 2, 2, 2)))
}
