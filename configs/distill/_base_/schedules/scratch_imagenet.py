# From scratch, for the paper's KD and back propagation: SGD with Nesterov momentum as in the paper, the rest is a usual
# choice for BN networks, 0.1 per 256 images falling to 0 by a cosine over 90 epochs. The rate follows the batch size;
# without BN (AlexNet, VGG-16 without BN) 0.01 is usual.
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
)
auto_scale_lr = dict(enable=True, base_batch_size=256)
param_scheduler = dict(type='CosineAnnealingLR')
train_cfg = dict(type='StagedLoop', stages=[dict(kind='train', epochs=90)])
