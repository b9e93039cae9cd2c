# Table 4's DenseNet-121 (R_bs): all four dense blocks become basic residual blocks; the transitions stay.
recipe = [dict(source='features.denseblock*', target=dict(type='BasicBlock'))]
