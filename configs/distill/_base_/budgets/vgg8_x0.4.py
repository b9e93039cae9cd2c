# Recasting 5 blocks, and as many images from scratch: in iterations of 128.
start = 'xavier'
recasting_stages = [dict(kind='recast', blocks='all', iters=120), dict(kind='finetune', iters=600)]
scratch_stages = [dict(kind='train', iters=1201)]
