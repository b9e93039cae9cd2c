# Zero-shot knowledge transfer (Micaelli and Storkey, 2019), the authors' setting for CIFAR-10.
model = dict(
    type='DataFreeDistillation',
    generator=dict(type='ZSKTGenerator', img_size=32, latent_dim=100, hidden_channels=128),
    links=[
        dict(student='logits', teacher='logits', loss=dict(type='KLDivergence', reduction='mean'), name='divergence'),
        dict(student='stages', teacher='stages', loss=dict(type='ATLoss', loss_weight=250.0), name='attention'),
    ],
    generator_links=[
        dict(
            student='logits',
            teacher='logits',
            loss=dict(type='KLDivergence', reduction='mean', loss_weight=-1.0, teacher_detach=False),
            name='divergence',
        )
    ],
    student_iter=10,
    share_images=True,
)
generated_batch = 128
data_free_stages = [
    dict(
        kind='train',
        iters=80_000,
        optim_wrapper=dict(
            student=dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=2e-3), clip_grad=dict(max_norm=5)),
            generator=dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-3), clip_grad=dict(max_norm=5)),
        ),
        param_scheduler=dict(type='CosineAnnealingLR'),
    )
]
custom_hooks = [dict(type='ResultHook', method='zskt')]
