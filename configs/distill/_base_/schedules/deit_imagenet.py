# OpenMMLab's schedule for DeiT on ImageNet: AdamW, 1e-3 per 1024 images, 20 epochs of warm-up, a cosine to 1e-5 over
# the other 280; no decay of tokens, position embedding, norms and biases. The rate follows the batch size.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={f'.{name}': dict(decay_mult=0.0) for name in ('cls_token', 'dist_token', 'pos_embed')},
    ),
    clip_grad=dict(max_norm=5.0),
)
auto_scale_lr = dict(enable=True, base_batch_size=1024)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, end=20, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, begin=20, convert_to_iter_based=True),
]
train_cfg = dict(type='StagedLoop', stages=[dict(kind='train', epochs=300)])
