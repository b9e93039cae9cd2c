"""Which groups an adjoined network narrows, by rule or by pattern, and what is said where they cannot."""

import pytest
from hand_networks import FREE, SHAPE, Net, build, conv, fc, pooled
from held_networks import HELD
from torch import nn
from torchvision import models

from mmrecast.surgery.channels import trace_channels
from mmrecast.surgery.width_rules import adjoined_groups, check_divisor, divisors_for

IMAGE = (3, 32, 32)


@pytest.fixture(scope='module')
def graphs():
    """Graphs of torchvision's ResNet-18 and ResNet-50."""
    return {name: trace_channels(models.get_model(name, num_classes=10), IMAGE) for name in ('resnet18', 'resnet50')}


def test_what_the_rule_adjoins_in_resnets(graphs):
    """In ResNet-18 every convolution with more than 64 filters; in ResNet-50 those that read more than 64, too."""
    groups = graphs['resnet18'].groups
    chosen = adjoined_groups(graphs['resnet18'])
    assert chosen == adjoined_groups(graphs['resnet18'], rule='basic') == [
        f'layer{stage}.{block}.conv{i}' for stage in (2, 3, 4) for block, i in ((0, 1), (0, 2), (1, 1))
    ]  # fmt: skip
    assert groups['layer3.0.conv2'].layers == ('layer3.0.conv2', 'layer3.0.downsample.0', 'layer3.1.conv2')
    chosen = adjoined_groups(graphs['resnet50'])
    assert chosen == adjoined_groups(graphs['resnet50'], rule='bottleneck')
    first = [f'layer2.0.conv{i}' for i in (1, 2, 3)]
    assert chosen[:3] == first and not any(name.startswith('layer1') for name in chosen)
    assert graphs['resnet50'].groups['layer2.0.conv3'].widths == (512,)
    wider = adjoined_groups(graphs['resnet50'], rule='basic')
    assert set(wider) - set(chosen) == {'layer1.0.conv3'}  # 256 filters that read 64 channels
    assert adjoined_groups(graphs['resnet18'], above=256) == [f'layer4.{n}' for n in ('0.conv1', '0.conv2', '1.conv1')]
    assert adjoined_groups(graphs['resnet18'], above=0)[0] == 'conv1'


def test_excluded_layers_keep_what_is_tied_to_them(graphs):
    chosen = adjoined_groups(graphs['resnet18'], exclude=['layer4', 'layer3.1.conv2', 'layer2.*.bn1'])
    assert chosen == ['layer2.0.conv1', 'layer2.0.conv2', 'layer2.1.conv1', 'layer3.0.conv1', 'layer3.1.conv1']
    assert adjoined_groups(graphs['resnet18'], exclude='layer4') == adjoined_groups(
        graphs['resnet18'], exclude=['layer4']
    )


def test_divisors_by_pattern(graphs):
    graph = graphs['resnet18']
    assert divisors_for(graph, 4) == dict.fromkeys(adjoined_groups(graph), 4)
    assert divisors_for(graph, {'layer1.*.conv1': 2, 'layer4.1.conv2': 8}) == {
        'layer1.0.conv1': 2, 'layer1.1.conv1': 2, 'layer4.0.conv2': 8
    }  # fmt: skip
    both = {'layer4': 4, 'layer4.0.conv1': 4}
    assert divisors_for(graph, both) == dict.fromkeys(['layer4.0.conv1', 'layer4.0.conv2', 'layer4.1.conv1'], 4)


def tied():
    return trace_channels(build(FREE, 'residual sum'), SHAPE)


MISTAKES = {  # what is asked of a network: its graph, arguments, what is said
    'unknown rule': (tied, dict(alpha=2, rule='botleneck'),
                     r"^rule must be one of auto, basic, bottleneck, got 'botleneck' \(nearest: bottleneck\)$"),
    'negative above': (tied, dict(alpha=2, above=-1), '^above must be a whole number of channels, at least 0, got -1$'),
    'above of a half': (tied, dict(alpha=2, above=0.5), 'above must be a whole number .* got 0.5'),
    'true above': (tied, dict(alpha=2, above=True), 'above must be a whole number .* got True'),
    'too narrow': (tied, dict(alpha=2), '^no layer to adjoin: a group narrows where its convolutions give more than 64 '
                   "channels, but the widest here, 'b', has 8 → 12: set above= lower$"),
    'all excluded': (tied, dict(alpha=2, above=4, exclude=['a', 'b']), '^no layer to adjoin: exclude leaves none$'),
    'exclude nothing': (tied, dict(alpha=2, above=4, exclude=['layer*']), r"pattern 'layer\*' matches nothing .near"),
    'exclude a number': (tied, dict(alpha=2, above=4, exclude=[3]), 'a pattern of modules is a text like .* got 3'),
    'not dividing': (tied, dict(alpha=5, above=4), '^alpha=5 does not divide the 8 channels of .a. and 1 more tied to '
                     r"it; possible here: 2, 4, 8, or exclude=\['a'\]$"),
    'leaving none': (tied, dict(alpha=16, above=4), "^alpha=16 leaves none of the 8 channels of 'a'"),
    'zero': (tied, dict(alpha=0, above=4), '^alpha must be a whole number of at least 1, got 0$'),
    'broken': (tied, dict(alpha=2.5, above=4), '^alpha must be a whole number of at least 1, got 2.5$'),
    'true': (tied, dict(alpha=True, above=4), '^alpha must be a whole number of at least 1, got True$'),
    'text': (tied, dict(alpha='4', above=4), "^alpha must be a whole number of at least 1, got '4'$"),
    'no pattern': (tied, dict(alpha={}), 'alpha names no layer'),
    'pattern of nothing': (tied, dict(alpha={'layer3.*': 2}), r"pattern 'layer3.\*' matches nothing \(nearest: "),
    'pattern of a norm': (tied, dict(alpha={'n1': 2}), "alpha of 'n1' cannot be: it holds no convolution or fully"),
    'the logits': (tied, dict(alpha={'fc': 2}), "alpha of 'fc' cannot be: 'fc' is held: it is the network's output"),
    'two for one': (tied, dict(alpha={'a': 2, 'c': 4}),
                    "^'a' and 'c' narrow together .* alpha cannot be 2 for one and 4 for the other$"),
    'tied to excluded': (tied, dict(alpha={'a': 2}, exclude=['c']),
                         r"'a' cannot narrow \(alpha of 'a'\): 'c', which is excluded, is tied to it"),
    'fraction by pattern': (tied, dict(alpha={'b': 1.5}), 'alpha must be a whole number of at least 1, got 1.5'),
    'groups': (lambda: trace_channels(build(FREE, 'grouped'), SHAPE), dict(alpha=8, above=4),
               r"^alpha=8 leaves none of the 4 groups \(of a grouped convolution\) of 'a' and 1 more tied to it; "
               'possible here: 2, 4, or exclude='),
    'held, by rule': (lambda: trace_channels(build(HELD, 'group norm'), SHAPE), dict(alpha=2, above=4, exclude=['b']),
                      "^no layer to adjoin: 1 group is wide enough but cannot narrow; 'a' is held: group_norm in"),
    'held, by pattern': (lambda: trace_channels(build(HELD, 'channel shuffle'), SHAPE), dict(alpha={'a': 2}),
                         "alpha of 'a' cannot be: 'a' is held: view in Net"),
}  # fmt: skip


@pytest.mark.parametrize('name', MISTAKES)
def test_what_cannot_be(name):
    graph, arguments, said = MISTAKES[name]
    with pytest.raises(ValueError, match=said) as caught:
        divisors_for(graph(), **arguments)
    assert '\n' not in str(caught.value) and len(str(caught.value)) < 300


def test_what_to_do_is_said_of_the_rule():
    """SqueezeNet's convolutions are mostly 1x1, and none of them reads and gives more than 64 channels."""
    graph = trace_channels(models.squeezenet1_1(num_classes=100), (3, 64, 64))
    said = "the widest here, 'features.11.expand1x1', has 64 → 256: set above= lower or rule='basic'$"
    with pytest.raises(ValueError, match=f'no layer to adjoin: .* read and give more than 64 channels, but {said}'):
        adjoined_groups(graph, exclude=['features.3'])
    assert len(adjoined_groups(graph, rule='basic')) == 12


def test_nothing_to_follow():
    graph = trace_channels(Net(lambda m, x: m.fc(x.flatten(1)), fc=fc(192)), SHAPE)
    with pytest.raises(ValueError, match='no layer to adjoin: the network has no convolution whose channels could be'):
        adjoined_groups(graph)


def test_vision_transformers_have_nothing_to_adjoin():
    with pytest.raises(ValueError, match="1 group .*cannot narrow; 'conv_proj' is held: permute in VisionTransformer"):
        adjoined_groups(trace_channels(models.vit_b_16(num_classes=10, image_size=32), IMAGE))


def test_no_divisor_fits():
    group = trace_channels(Net(lambda m, x: m.fc(pooled(m.a(x))), a=conv(3, 7), fc=fc(7)), SHAPE).groups['a']
    with pytest.raises(
        ValueError, match="^a divisor=2 does not divide the 7 channels of 'a'; possible here: 7, or exc"
    ):
        check_divisor(group, 2, 'a divisor')


def test_a_layer_that_two_patterns_name():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8 * 16, 10))
    with pytest.raises(ValueError, match="two patterns of alpha name '0': it cannot be 2 and 4$"):
        divisors_for(trace_channels(network, (3, 8, 8)), {'0': 2, '*': 4})
