# DFAD (Fang et al., 2019), the authors' setting for CIFAR, whose epochs have 50 iterations.
model = dict(
    type='DataFreeDistillation',
    generator=dict(type='DAFLGenerator', img_size=32, latent_dim=256, hidden_channels=128, bn_eps=1e-5),
    links=[dict(student='logits', teacher='logits', loss=dict(type='L1Loss'))],
    generator_links=[
        dict(
            student='logits',
            teacher='logits',
            loss=dict(type='DiscrepancyLoss', loss_weight=-1.0),
            name='discrepancy',
        )
    ],
    student_iter=5,
    student_train_first=True,
)
generated_batch = 256
data_free_stages = [
    dict(
        kind='train',
        iters=500 * 50,
        optim_wrapper=dict(
            student=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4)),
            generator=dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-3)),
        ),
        param_scheduler=dict(type='MultiStepLR', milestones=[100 * 50, 200 * 50], gamma=0.1, by_epoch=False),
    )
]
custom_hooks = [dict(type='ResultHook', method='dfad')]
