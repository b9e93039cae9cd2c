# 34 epochs in all, a fiftieth of the authors' 1,720 on ResNet-56: a closed-form start, 60 iterations per block, then
# fine-tuning. Adam, falling to 0 by a cosine in every stage.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-3))
param_scheduler = dict(type='CosineAnnealingLR')
start = 'closed_form'
train_cfg = dict(
    type='StagedLoop',
    stages=[dict(kind='recast', blocks='all', iters=60, val=False), dict(kind='finetune', epochs=29)],
    probe_images=256,
)
