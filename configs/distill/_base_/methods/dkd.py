# DKD (Zhao et al., 2022); mdistiller's settings for ResNet-56 → ResNet-20 on CIFAR-100, where the weight grows over the
# first 20 of 240 epochs. Its beta is 6 for VGG-13 → VGG-8 and WRN-40-2 → WRN-16-2, 8 for ResNet-32x4 → ResNet-8x4.
model = dict(
    type='SingleTeacherDistill',
    links=[
        dict(
            student='logits',
            teacher='logits',
            loss=dict(type='DKDLoss', tau=4.0, alpha=1.0, beta=2.0),
            warmup=1 / 12,
        )
    ],
)
custom_hooks = [dict(type='ResultHook', method='dkd')]
