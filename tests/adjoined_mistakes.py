"""The mistakes a user can make with adjoined networks and their search, for the table of `mistakes`."""

import tiny

NETWORK = tiny.classifier(widths=(4, 8, 16), shortcut='B')
SEARCH = (dict(kind='search', iters=1), dict(kind='train', iters=1))
TIED = {'backbone.layer2.0.conv2': 2, 'backbone.layer2.0.shortcut.0': 4}
TAU = [dict(type='ExponentialParamScheduler', param_name='taau', gamma=0.9)]


def adjoin(stages: tuple = (dict(kind='train', iters=2),), **changes) -> dict:
    """Return the change of the config to an adjoined network; ``changes`` are of the algorithm."""
    model = dict(type='AdjoinedNetwork', network=NETWORK, above=4, data_preprocessor=tiny.preprocessor())
    return {'model': model | changes, 'train_cfg.stages': list(stages)}


def search(stages: tuple = SEARCH, **changes) -> dict:
    """Return the change of the config to a search of widths."""
    return adjoin(stages, type='DifferentiableAdjoinedNetwork', **changes)


# as in `mistakes`: (name, changes of a config, exception, what it says)
ADJOINED = [
    ('alpha does not divide', adjoin(alpha=3), ValueError,
     "alpha=3 does not divide the 8 channels of 'backbone.layer2.0.conv1'; possible here: 2, 4, 8, or exclude="),
    ('alpha leaves none', adjoin(alpha=16), ValueError, 'alpha=16 leaves none of the 8 channels of'),
    *[(f'alpha {alpha}', adjoin(alpha=alpha), ValueError, f'alpha must be a whole number of at least 1, got {alpha}$')
      for alpha in (0, -2, 2.5, True)],
    ('all too narrow', adjoin(above=64), ValueError,
     "no layer to adjoin: a group narrows where .* more than 64 channels, but the widest here, 'backbone.*: set a"),
    ('all excluded', adjoin(exclude=['backbone']), ValueError, 'no layer to adjoin: exclude leaves none$'),
    ('excluded nothing', adjoin(exclude=['backbone.layr3']), ValueError,
     "'backbone.layr3' matches nothing .nearest: backbone.layer3"),
    ('two divisors for one', adjoin(alpha=TIED), ValueError,
     "'backbone.layer2.0.conv2' and 'backbone.layer2.0.shortcut.0' narrow together .* cannot be 2 for one and 4 for"),
    ('tied to what is excluded', adjoin(alpha={'backbone.layer2': 2}, exclude=['backbone.layer2.0.shortcut']),
     ValueError, "'backbone.layer2.0.conv2' cannot narrow .*: 'backbone.layer2.0.shortcut.0', which is excluded, is"),
    ('a group that is held', adjoin(alpha={'backbone.layer2.0.conv2': 2}, network=tiny.classifier()), ValueError,
     "'backbone.layer2.0.conv2' cannot be: .* is held: pad in PadShortcut .* does not keep"),
    ('the logits', adjoin(alpha={'head.fc': 2}), ValueError, "'head.fc' is held: it is the network's output"),
    ('alpha of nothing', adjoin(alpha={'backbone.layer4.*': 2}), ValueError,
     r"pattern 'backbone.layer4.\*' matches nothing .nearest: backbone.layer"),
    ('alpha of none', adjoin(alpha={}), ValueError, 'alpha names no layer: give one number for all, or alpha='),
    ('alpha in words', adjoin(alpha='four'), ValueError, "alpha must be a whole number of at least 1, got 'four'"),
    ('rule misspelt', adjoin(rule='botleneck'), ValueError,
     "rule must be one of auto, basic, bottleneck, got 'botleneck' .nearest: bottleneck"),
    ('above negative', adjoin(above=-1), ValueError, 'above must be a whole number of channels, at least 0, got -1'),
    ('mask of all', adjoin(kernel_mask=1.0), ValueError, 'kernel_mask must be a number of at least 0 and below 1, got'),
    ('warm-up too long', adjoin(warmup=2), ValueError, 'warmup must be a number of at least 0 and at most 1, got 2$'),
    ('negative weight', adjoin(kl_weight=-1.0), ValueError, 'kl_weight must be a number of at least 0, got -1.0$'),
    ('adjoined argument', adjoin(alhpa=2), TypeError, "^AdjoinedNetwork takes no argument 'alhpa' .nearest: alpha"),
    ('no network', {'model': dict(type='AdjoinedNetwork', data_preprocessor=tiny.preprocessor())}, TypeError,
     "^AdjoinedNetwork needs the argument 'network', which is not given$"),
    ('network nowhere', adjoin(network='work_dirs/absent/student.pth'), FileNotFoundError, 'no checkpoint at w'),
    ('checkpoint nowhere', adjoin(checkpoint='{files}/techer.pth'), FileNotFoundError,
     'no checkpoint at .*techer.pth .nearest: teacher.pth'),
    ('checkpoint empty', adjoin(checkpoint='{files}/empty.pth'), ValueError, 'empty.pth is not a readable checkpoint'),
    ('classes of both', adjoin(network=NETWORK | dict(head=dict(NETWORK['head'], num_classes=7))), ValueError,
     'the full network has 7 classes but the data set has 10'),
    ('adjoined stage', adjoin((dict(kind='finetune', iters=1),)), ValueError, "no stage 'finetune' .nearest: train"),
    ('adjoined length', adjoin((dict(kind='train', epochs=0),)), ValueError, 'train: its length must be at least 1, g'),
    ('adjoined loss', adjoin(kd_loss=dict(type='KLDivergense')), KeyError, 'nearest: KLDivergence'),
    ('adjoined shape', adjoin() | {'model.data_preprocessor': dict(type='BatchPreprocessor', input_shape=(3, 8, 8))},
     ValueError, r'ImageClassifier cannot be run on input shape \(3, 8, 8\): '),
    ('nothing to share', adjoin(alpha=1, shared_prefix=True), ValueError, 'shared_prefix needs a layer that is'),
    ('one divisor', search(divisors=[2]), ValueError, r'a search needs two or more different divisors .*, got \[2\]$'),
    ('no divisor', search(divisors=[]), ValueError, r'two or more different divisors to choose among, got \[\]$'),
    ('divisor twice', search(divisors=[1, 2, 2]), ValueError, r'two or more different divisors .* got \[1, 2, 2\]$'),
    ('divisor that does not fit', search(divisors=[1, 3]), ValueError, 'a divisor=3 does not divide the 8 channels of'),
    ('divisor of a half', search(divisors=[1, 0.5]), ValueError, 'a divisor must be a whole number .* got 0.5$'),
    ('alpha of a search', search(alpha=4), ValueError, r'a search has divisors=\(1, 2, 4\) to choose among, not alpha'),
    ('gamma negative', search(gamma=-1e-10), ValueError, 'gamma of the cost must be at least 0, got -1e-10: it'),
    ('gamma no number', search(gamma=float('nan')), ValueError, 'gamma must be a number, got nan$'),
    ('tau zero', search(tau=0.0), ValueError, 'the temperature tau must be greater than 0, got 0$'),
    ('tau no number', search(tau=float('nan')), ValueError, 'tau must be a number, got nan$'),
    ('search argument', search(gama=1e-9), TypeError, "^DifferentiableAdjoinedNetwork takes no argument 'gama' .nearest"
     ': gamma'),
    ('search without widths', search(exclude=['backbone']), ValueError, 'no layer to adjoin: exclude leaves none$'),
    ('cost misspelt', search(cost=dict(type='mult')), ValueError, "mults, params, latency, got 'mult' .nearest: mults"),
    ('cost argument', search(cost=dict(type='latency', tabel='t.json')), ValueError, 'nearest: table'),
    ('cost without table', search(cost=dict(type='latency')), ValueError, "cost 'latency' needs table="),
    ('table nowhere', search(cost=dict(type='latency', table='{files}/t.json')), FileNotFoundError, 't.json'),
    ('scheduled name', search() | {'param_scheduler': TAU}, ValueError, "'taau' .nearest: tau"),
    ('search alone', search(SEARCH[:1]), ValueError, 'a search is search, train, got search: stages='),
    ('train alone', search(SEARCH[1:]), ValueError, r'search, train, got train: .* AdjoinedNetwork\(alpha=…\)$'),
    ('train before the search', search(SEARCH[::-1]), ValueError, 'search, train, got train, search: stages='),
    ('search without length', search((dict(kind='search', epochs=0), SEARCH[1])), ValueError, 'search: its length'),
]  # fmt: skip
