# The digits of scikit-learn, 8x8 and grey, no download; mean and standard deviation of the training images.
dataset_type = 'Digits'

data_preprocessor = dict(
    type='BatchPreprocessor',
    input_shape=(1, 8, 8),
    mean=[77.9],
    std=[95.9],
    crop_padding=1,
    flip=False,
)

train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    dataset=dict(type=dataset_type, split='train'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='mmrecast.batch_collate'),
    drop_last=True,  # every iteration sees 128 images
)
val_dataloader = dict(
    batch_size=360,
    num_workers=0,
    dataset=dict(type=dataset_type, split='test'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='mmrecast.batch_collate'),
    drop_last=False,
)
test_dataloader = val_dataloader

val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1,))
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
