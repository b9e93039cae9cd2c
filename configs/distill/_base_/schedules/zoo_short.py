# One budget for every method, for two cores: 800 iterations of one batch size, SGD with Nesterov momentum, falling to 0
# by a cosine. Methods of two phases spend `short_pretrain` of it on the first and `rest_stages` on the second, as
# RepDistiller has 30 of 240 epochs for the first; recasting three stages of a network has Adam as its authors.
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
)
param_scheduler = dict(type='CosineAnnealingLR')
train_stages = [dict(kind='train', iters=800)]
train_cfg = dict(type='StagedLoop', stages=train_stages)
short_pretrain = dict(epochs=None, iters=100, param_scheduler=None)
rest_stages = [dict(kind='train', iters=700)]
adam = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-3))
recasting_stages = [
    dict(kind='recast', blocks='all', iters=100, optim_wrapper=adam),
    dict(kind='finetune', iters=500, optim_wrapper=adam),
]
