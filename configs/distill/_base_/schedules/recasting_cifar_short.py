# For two cores, batch 128: Adam at 1e-3, falling to 0 by a cosine in every stage. The lengths are in _base_/budgets.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-3))
param_scheduler = dict(type='CosineAnnealingLR')
train_cfg = dict(type='StagedLoop')
