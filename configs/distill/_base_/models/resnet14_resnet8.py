# ResNet-14 → ResNet-8 for the 8x8 digits of scikit-learn: option-A shortcuts, widths 16/32/64, one channel, 2 blocks
# and 1 a stage.
_base_ = './resnet56_resnet20.py'
networks = dict(
    teacher=dict(backbone=dict(depth=14, in_channels=1)),
    student=dict(backbone=dict(depth=8, in_channels=1)),
    taps=dict(
        teacher=dict(preacts=[dict(path=f'backbone.layer{stage}.1.relu', read='input') for stage in (1, 2, 3)]),
        student=dict(preacts=[dict(path=f'backbone.layer{stage}.0.relu', read='input') for stage in (1, 2, 3)]),
    ),
)
recipe = [
    dict(
        source='backbone.layer*',
        target=dict(type='StackedBlocks', block=dict(type='BasicBlock', shortcut='pad'), depth=1),
    )
]
