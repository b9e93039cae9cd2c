# The authors' schedule for CIFAR-10 and ImageNet (Adjoined Networks): AdamW, one cycle of 100 epochs. The rate is that
# of the cycle: 4e-4 to 4e-3 over the first tenth, down to 4e-8 over the rest; beta1 goes 0.95, 0.85, 0.95 meanwhile.
# DAN searches for as long, and τ falls at every epoch of the search.
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=4e-3, betas=(0.95, 0.99), eps=1e-6, weight_decay=1e-2)
)
param_scheduler = [
    dict(type='OneCycleLR', eta_max=4e-3, pct_start=0.1, div_factor=10, final_div_factor=1e4),
    dict(type='CosineAnnealingMomentum', eta_min=0.85, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingMomentum', eta_min=0.95, begin=10, end=100, convert_to_iter_based=True),
]
falling_tau = dict(type='ExponentialParamScheduler', param_name='tau', gamma=0.956, by_epoch=True)
train_stages = [dict(kind='train', epochs=100)]
search_stages = [dict(kind='search', epochs=100, param_scheduler=[*param_scheduler, falling_tau])]
train_cfg = dict(type='StagedLoop', stages=train_stages)
