# ReviewKD (Chen et al., 2021); mdistiller's settings, whose weight grows over the first 20 of 240 epochs. The authors'
# weight is 0.6 for ResNet-56 → ResNet-20, 5 for ResNet-32x4 → ResNet-8x4 and WRN-40-2 → WRN-16-2.
model = dict(
    type='SingleTeacherDistill',
    links=[
        dict(
            student=['stages', 'penultimate'],
            teacher=['preacts', 'penultimate'],
            connector=dict(type='ABFConnector'),
            loss=dict(type='HCLoss', loss_weight=1.0),
            warmup=1 / 12,
        )
    ],
)
custom_hooks = [dict(type='ResultHook', method='reviewkd')]
