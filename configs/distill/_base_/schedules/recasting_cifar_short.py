# For the closed-form start on two cores: 60 iterations per block and three epochs of fine-tuning, batch 128. Lengths are in
# iterations, so that the cosine falls at every one of them.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-3))
param_scheduler = dict(type='CosineAnnealingLR')
train_cfg = dict(
    type='StagedLoop',
    stages=[dict(kind='recast', blocks='all', iters=60), dict(kind='finetune', iters=1173)],
)
