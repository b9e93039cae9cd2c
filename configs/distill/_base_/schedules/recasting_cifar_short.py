# For the closed-form start on two cores, batch 128: 60 iterations per block and three epochs of fine-tuning, given in
# iterations.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-3))
param_scheduler = dict(type='CosineAnnealingLR')
train_cfg = dict(
    type='StagedLoop',
    stages=[dict(kind='recast', blocks='all', iters=60), dict(kind='finetune', iters=1173)],
)
