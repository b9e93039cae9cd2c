# Recasting 6 blocks, and as many images from scratch: in iterations of 128.
start = 'xavier'
recasting_stages = [dict(kind='recast', blocks='all', iters=40), dict(kind='finetune', iters=240)]
scratch_stages = [dict(kind='train', iters=481)]
