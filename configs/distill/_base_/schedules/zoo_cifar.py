# RepDistiller's schedule for CIFAR, batch 64: SGD, 0.05, x0.1 at 150, 180 and 210 of 240 epochs. Recasting three stages
# of a network fills the same 240, with Adam as its authors have it.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4))
param_scheduler = dict(type='MultiStepLR', milestones=[150, 180, 210], gamma=0.1)
train_stages = [dict(kind='train', epochs=240)]
train_cfg = dict(type='StagedLoop', stages=train_stages)
recasting = dict(
    optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-3)),
    param_scheduler=dict(type='CosineAnnealingLR'),
)
recasting_stages = [
    dict(kind='recast', blocks='all', epochs=40, **recasting),
    dict(kind='finetune', epochs=120, **recasting),
]
