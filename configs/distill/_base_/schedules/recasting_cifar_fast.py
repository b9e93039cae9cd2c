# 34 epochs in all, a fiftieth of the authors' 1,720 on ResNet-56: a closed-form start, 60 iterations per block, then
# fine-tuning. Muon for convolutions and Adam for the rest, falling to 0 by a cosine in every stage, at a rate that is
# the lower the more blocks train along; while a block is recast, kernels take three times the step.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='MuonWithAuxAdam', lr=1e-3))
param_scheduler = dict(type='CosineAnnealingLR')
start = 'closed_form'
train_cfg = dict(
    type='StagedLoop',
    stages=[
        dict(
            kind='recast', blocks='backbone.layer1.*', iters=60, val=False,
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='MuonWithAuxAdam', lr=3e-3, rms=0.6)),
        ),
        dict(
            kind='recast', blocks='backbone.layer2.*', iters=60, val=False,
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='MuonWithAuxAdam', lr=1e-3, rms=0.6)),
        ),
        dict(
            kind='recast', blocks='backbone.layer3.*', iters=60, val=False,
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='MuonWithAuxAdam', lr=3e-4, rms=0.6)),
        ),
        dict(kind='finetune', epochs=29),
    ],
    probe_images=256,
)  # fmt: skip
