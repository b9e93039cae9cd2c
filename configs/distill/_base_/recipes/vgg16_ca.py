# Table 4's VGG-16 (C_A), fewer activations. The paper does not give its widths; these, a ratio per stage, come closest
# to its counts: 120.54 M, 3.12 G and 3.28 M against 120.61 M, 3.12 G and 3.30 M.
ratios = [0.1] * 2 + [0.2] * 2 + [0.3] * 3 + [0.6] * 3 + [0.9] * 3
recipe = [dict(source='features.*', target=dict(type='ConvBlock', width_ratio=ratios))]
