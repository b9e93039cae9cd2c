# Recasting 3 blocks, and as many images from scratch, starts included: in iterations of 128.
start = 'closed_form'
recasting_stages = [dict(kind='recast', blocks='all', iters=60), dict(kind='finetune', iters=500)]
scratch_stages = [dict(kind='train', iters=704)]
