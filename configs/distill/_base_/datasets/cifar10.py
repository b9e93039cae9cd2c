# CIFAR-10: 4-pixel crop and flip; mean and standard deviation are ImageNet's (0..255, RGB), as the public
# CIFAR ResNets use them.
dataset_type = 'CIFAR10'
data_root = 'data/cifar10'

data_preprocessor = dict(
    type='BatchPreprocessor',
    input_shape=(3, 32, 32),
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    crop_padding=4,
    flip=True,
    channels_last=True,
)

train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    dataset=dict(type=dataset_type, data_root=data_root, split='train'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='mmrecast.batch_collate'),
    drop_last=False,
)
val_dataloader = dict(
    batch_size=500,
    num_workers=0,
    dataset=dict(type=dataset_type, data_root=data_root, split='test'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='mmrecast.batch_collate'),
    drop_last=False,
)
test_dataloader = val_dataloader

val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1,))
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
