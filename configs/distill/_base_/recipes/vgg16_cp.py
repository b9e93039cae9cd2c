# Table 4's VGG-16 (C_P), fewer parameters: all 13 convolutions keep 55 % of their filters.
recipe = [dict(source='features.*', target=dict(type='ConvBlock', width_ratio=0.55))]
