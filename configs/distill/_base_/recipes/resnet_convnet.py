# Every residual block becomes one 3x3 convolution; that of a bottleneck is as wide as its 3x3, a quarter of its output.
recipe = [dict(source='backbone.layer*.*', target=dict(type='ConvBlock'))]
