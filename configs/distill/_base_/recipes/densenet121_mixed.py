# Table 4's DenseNet-121 (R_bs+D): dense blocks 1 and 2 become basic residual blocks, 3 and 4 stay.
recipe = [dict(source=['features.denseblock1', 'features.denseblock2'], target=dict(type='BasicBlock'))]
