# Every block becomes one of its kind with half the filters: WRN-16-2 becomes WRN-16-1.
recipe = [dict(source='backbone.layer*.*', target=dict(type='PreActBasicBlock', width_ratio=0.5))]
