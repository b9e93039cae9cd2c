# Every dense block becomes one basic residual block of two 3x3 convolutions; the transitions stay.
recipe = [dict(source='backbone.block*', target=dict(type='BasicBlock'))]
