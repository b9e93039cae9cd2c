# Table 4's ResNet-50 (C+R_bt): the first 11 bottlenecks become convolutions, the last five stay.
recipe = [dict(source=['layer1.*', 'layer2.*', 'layer3.[0-3]'], target=dict(type='ConvBlock'))]
