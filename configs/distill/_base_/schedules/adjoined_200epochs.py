# The authors' schedule for CIFAR-100 (Adjoined Networks): as that of 100 epochs, twice as long.
_base_ = './adjoined_100epochs.py'
param_scheduler = [
    dict(type='OneCycleLR', eta_max=4e-3, pct_start=0.1, div_factor=10, final_div_factor=1e4),
    dict(type='CosineAnnealingMomentum', eta_min=0.85, end=20, convert_to_iter_based=True),
    dict(type='CosineAnnealingMomentum', eta_min=0.95, begin=20, end=200, convert_to_iter_based=True),
]
train_stages = [dict(kind='train', epochs=200)]
search_stages = [dict(kind='search', epochs=200, param_scheduler=[*param_scheduler, _base_.falling_tau])]
train_cfg = dict(stages=train_stages)
