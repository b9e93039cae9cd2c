# DAFL (Chen et al., 2019), the authors' setting for CIFAR-10. For CIFAR-100 the generator's weights are 0.5, 20 and
# 0.1.
model = dict(
    type='DAFLDataFreeDistillation',
    generator=dict(type='DAFLGenerator', img_size=32, latent_dim=1000, hidden_channels=128),
    links=[dict(student='logits', teacher='logits', loss=dict(type='KLDivergence'))],
    generator_links=[
        dict(teacher='logits', loss=dict(type='OnehotLikeLoss', loss_weight=0.05), name='one_hot'),
        dict(teacher='logits', loss=dict(type='InformationEntropyLoss', loss_weight=5.0), name='entropy'),
        dict(teacher='penultimate', loss=dict(type='ActivationLoss', loss_weight=0.01), name='activation'),
    ],
)
generated_batch = 1024
data_free_stages = [
    dict(
        kind='train',
        iters=2000 * 120,
        optim_wrapper=dict(
            student=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4)),
            generator=dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=0.02)),
        ),
        param_scheduler=dict(
            student=dict(type='MultiStepLR', milestones=[800 * 120, 1600 * 120], gamma=0.1, by_epoch=False)
        ),
    )
]
custom_hooks = [dict(type='ResultHook', method='dafl')]
