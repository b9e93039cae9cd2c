# ResNet-32x4 → ResNet-8x4 of RepDistiller for 32x32 images: a stem of 32, stages of 64/128/256, projection shortcuts, 5
# blocks and 1 a stage.
_base_ = './resnet56_resnet20.py'
wide = dict(shortcut='B', widths=(64, 128, 256), stem_width=32)
networks = dict(
    teacher=dict(backbone=dict(depth=32, **wide), head=dict(in_channels=256)),
    student=dict(backbone=dict(depth=8, **wide), head=dict(in_channels=256)),
    taps=dict(
        teacher=dict(preacts=[dict(path=f'backbone.layer{stage}.4.relu', read='input') for stage in (1, 2, 3)]),
        student=dict(preacts=[dict(path=f'backbone.layer{stage}.0.relu', read='input') for stage in (1, 2, 3)]),
    ),
)
recipe = [dict(source='backbone.layer*', target=dict(type='StackedBlocks', block=dict(type='BasicBlock'), depth=1))]
