# CIFAR-100: 4-pixel crop and flip; mean and standard deviation of its training images (0..255, RGB).
dataset_type = 'CIFAR100'
data_root = 'data/cifar100'

data_preprocessor = dict(
    type='BatchPreprocessor',
    input_shape=(3, 32, 32),
    mean=[129.304, 124.070, 112.434],
    std=[68.170, 65.392, 70.418],
    crop_padding=4,
    flip=True,
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

val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1, 5))
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
