# The bottlenecks of stages 1 and 2 become convolutions, those of stage 3 stay.
recipe = [dict(source=['backbone.layer1.*', 'backbone.layer2.*'], target=dict(type='ConvBlock'))]
