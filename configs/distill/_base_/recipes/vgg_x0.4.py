# Every convolution keeps two fifths of its filters.
recipe = [dict(source='backbone.features.*', target=dict(type='ConvBlock', width_ratio=0.4))]
