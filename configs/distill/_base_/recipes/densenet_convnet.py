# Every dense block becomes one 3x3 convolution; the transitions stay.
recipe = [dict(source='backbone.block*', target=dict(type='ConvBlock'))]
