# From scratch: SGD with Nesterov momentum, 0.05 falling to 0 by a cosine.
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4)
)
param_scheduler = dict(type='CosineAnnealingLR')
train_cfg = dict(type='StagedLoop', stages=[dict(kind='train', epochs=180)])
