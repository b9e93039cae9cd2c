# Every pre-activation block becomes one 3x3 convolution of its width.
recipe = [dict(source='backbone.layer*.*', target=dict(type='ConvBlock'))]
