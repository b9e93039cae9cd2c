# Recasting 9 blocks, and as many images from scratch, starts included: in iterations of 128.
start = dict(type='closed_form', images=1024)
recasting_stages = [dict(kind='recast', blocks='all', iters=60), dict(kind='finetune', iters=600)]
scratch_stages = [dict(kind='train', iters=1213)]
