# Table 4's ResNet-50 (C): all 16 bottlenecks become 3x3 convolutions of 64, 128, 256 and 512 filters.
recipe = [dict(source='layer*.*', target=dict(type='ConvBlock'))]
