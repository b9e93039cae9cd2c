# Figure 6: the first layer of AlexNet alone, 64 filters become 25.
recipe = [dict(source='features.0', target=dict(type='ConvBlock', out_channels=25))]
