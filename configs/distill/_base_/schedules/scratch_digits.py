# From scratch on the digits, batch 128: SGD with Nesterov momentum, falling to 0 by a cosine. As many images as
# recasting_digits.py: 27 x 3 iterations for 27 blocks, 27 x 384 images for their starts, 78 iterations of fine-tuning.
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.02, momentum=0.9, nesterov=True, weight_decay=1e-4)
)
param_scheduler = dict(type='CosineAnnealingLR')
train_cfg = dict(type='StagedLoop', stages=[dict(kind='train', iters=240)])
