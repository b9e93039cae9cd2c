# The first phase of methods that have two, as RepDistiller has it for CIFAR: SGD, a constant 0.05, for 30 epochs.
pretrain_stages = [
    dict(
        kind='pretrain',
        epochs=30,
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4)),
        param_scheduler=[],
        val=False,
    )
]
