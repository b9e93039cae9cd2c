# Every pre-activation block becomes one 3x3 convolution, in stages 2 and 3 of half its width. The paper's counts are
# those of 160x4, 160x4 and 320x4 filters.
recipe = [
    dict(source='backbone.layer1.*', target=dict(type='ConvBlock')),
    dict(source=['backbone.layer2.*', 'backbone.layer3.*'], target=dict(type='ConvBlock', width_ratio=0.5)),
]
