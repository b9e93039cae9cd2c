_base_ = ['../_base_/methods/zskt.py', '../_base_/pairs/resnet14_resnet8_digits.py']
model = dict(_base_.networks, generator=dict(img_size=8, out_channels=1))
train_cfg = dict(stages=[dict(_base_.data_free_stages[0], iters=100)])
