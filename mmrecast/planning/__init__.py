"""Which block is to become what: candidates, what they cost and lose, and the choice among them.

::

    chain ─▶ candidates ─┬─ costs    latency measured and calibrated, params, mults
                         └─ prices   closed-form residual, then trained alone and swapped in alone
                              └─▶ choice ─▶ the best few, judged whole ─▶ recipe, config
"""
