# Every block becomes one of its kind with a fifth of the filters: WRN-28-10 becomes WRN-28-2.
recipe = [dict(source='backbone.layer*.*', target=dict(type='PreActBasicBlock', width_ratio=0.2))]
