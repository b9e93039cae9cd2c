import copy
import json

import pytest
import torch
from mmengine.config import ConfigDict
from torch import nn

from mmrecast.blocks import ConvBlock, SourceInfo
from mmrecast.models import build_network
from mmrecast.surgery.apply import check_plan, replay
from mmrecast.surgery.plan import Plan, PlanEntry, make_plan

CONV = dict(type='ConvBlock')


def rule(source, target=CONV, **kwargs):
    return dict(source=source, target=dict(target, **kwargs))


@pytest.fixture
def resnet20(toys):
    return build_network(toys.cifar(20, widths=(4, 8, 16)))


@pytest.fixture
def resnet29(toys):
    """Nine bottlenecks: outputs of 16, 32 and 64 channels, 3x3 convolutions of 4, 8 and 16."""
    return build_network(toys.cifar(29, 'bottleneck', 'B', widths=(4, 8, 16)))


def test_basic_blocks_keep_their_width(resnet20):
    plan = make_plan(resnet20, [rule('backbone.layer*.*')], (3, 32, 32))
    assert plan.steps == list(range(9)) and {e.action for e in plan.entries} == {'recast'}
    assert plan.entries[3] == PlanEntry(
        'backbone.layer2.0', 'recast', SourceInfo('basic', 4, 8, 2, 8), (4, 32, 32), (8, 16, 16), 4, 8,
        dict(type='ConvBlock', in_channels=4, out_channels=8, stride=2), (),
    )  # fmt: skip
    assert plan.tap(3) == 'backbone.layer2.1' and plan.tap(8) is None
    assert plan.entries[8].glue == ('neck.gap', 'head.fc')


def test_bottlenecks_narrow_to_their_3x3_and_the_next_is_rebuilt(resnet29):
    plan = make_plan(resnet29, [rule('backbone.layer1.*'), rule('backbone.layer3.2')], (3, 16, 16))
    assert [(e.action, e.in_channels, e.out_channels) for e in plan.entries] == [
        ('recast', 4, 4), ('recast', 4, 4), ('recast', 4, 4),
        ('rebuild', 4, 32), ('keep', 32, 32), ('keep', 32, 32),
        ('keep', 32, 64), ('keep', 64, 64), ('recast', 64, 16),
    ]  # fmt: skip
    assert plan.steps == [0, 1, 2, 8]


@pytest.mark.parametrize(
    ('kwargs', 'widths'),
    [
        (dict(width_ratio=0.5), (2, 2, 2)),
        (dict(width_ratio=[0.3, 0.375, 2]), (1, 2, 8)),  # 1.2 → 1, 1.5 → 2, 8
        (dict(width_ratio=(1, 1, 0.5)), (4, 4, 2)),
        (dict(out_channels=6), (6, 6, 6)),
    ],
)
def test_widths(resnet20, kwargs, widths):
    plan = make_plan(resnet20, [rule('backbone.layer1.*', **kwargs)], (3, 32, 32))
    assert tuple(e.out_channels for e in plan.entries[:3]) == widths
    assert [e.in_channels for e in plan.entries[:4]] == [4, *widths]
    assert plan.entries[3].action == ('rebuild' if widths[2] != 4 else 'keep')
    for entry in plan.entries[:3]:
        assert entry.target == dict(
            type='ConvBlock', in_channels=entry.in_channels, out_channels=entry.out_channels, stride=1
        )
    check_plan(resnet20, plan)


def test_rules_may_be_written_in_several_ways(resnet20):
    expected = make_plan(resnet20, [rule(['backbone.layer1.0', 'backbone.layer1.1'])], (3, 32, 32))
    for recipe in (
        dict(source='backbone.layer1.[01]', target='ConvBlock'),
        [dict(source='backbone.layer1.0', target='ConvBlock'), dict(source=('backbone.layer1.1',), target=CONV)],
        [ConfigDict(source='backbone.layer1.[01]', target=dict(type='mmrecast.ConvBlock'))],
        [dict(source='backbone.layer1.[01]', target=dict(type=ConvBlock))],
    ):
        assert make_plan(resnet20, recipe, (3, 32, 32)) == expected


def test_a_plan_is_plain_data_whatever_the_recipe_was(resnet20):
    recipe = [ConfigDict(source='backbone.layer1.0', target=dict(type='ConvBlock', kernel_size=5))]
    before = copy.deepcopy(recipe)
    plan = make_plan(resnet20, recipe, (3, 32, 32))
    assert recipe == before
    stored = json.loads(json.dumps(plan.to_dict()))
    assert type(plan.to_dict()['entries'][0]['target']) is dict
    assert Plan.from_dict(stored) == plan
    assert plan.to_dict() == stored
    plan.to_dict()['entries'][0]['target']['type'] = 'changed'
    assert plan.entries[0].target['type'] == 'ConvBlock'


def shapes(net):
    return {k: tuple(v.shape) for k, v in net.state_dict().items()}


@pytest.mark.parametrize('name', ['resnet20', 'resnet29'])
def test_after_some_steps(name, request):
    net = request.getfixturevalue(name)
    recipe = [rule(['backbone.layer1.0', 'backbone.layer1.1'], width_ratio=0.5), rule('backbone.layer3.*')]
    plan = make_plan(net, recipe, (3, 16, 16))
    assert plan.after(len(plan.steps)) == plan
    nothing = plan.after(0)
    assert {e.action for e in nothing.entries} == {'keep'} and nothing.steps == []
    assert shapes(replay(copy.deepcopy(net), nothing)) == shapes(net)
    for steps in range(1, len(plan.steps)):
        part = plan.after(steps)
        assert part.steps == plan.steps[:steps]
        for before, after in zip(part.entries, part.entries[1:], strict=False):
            assert before.out_channels == after.in_channels
        # The same as a recipe of these blocks alone would give.
        paths = [plan.entries[i].path for i in part.steps]
        alone = [rule(p, **(dict(width_ratio=0.5) if 'layer1' in p else {})) for p in paths]
        assert part == make_plan(net, alone, (3, 16, 16))
        check_plan(copy.deepcopy(net), part)
        assert Plan.from_dict(part.to_dict()) == part


def broken(**changes):
    entry = dict(
        path='a', action='keep', source=dict(kind='module', in_channels=1, out_channels=1, stride=1),
        in_shape=[1, 2, 2], out_shape=[1, 2, 2], in_channels=1, out_channels=1, target=None, glue=[],
    )  # fmt: skip
    return dict(input_shape=[3, 4, 4], entries=[entry | changes])


def test_stored_plans_are_checked():
    assert Plan.from_dict(broken()).entries[0].path == 'a'
    for plan, message in (
        (None, 'not a recasting plan: '),
        (dict(entries=[]), "not a recasting plan: it lacks 'input_shape'"),
        (dict(input_shape=[3, 4, 4], entries=dict(path='x')), 'not a recasting plan: entries is a list, got dict'),
        (broken(glue=torch.zeros(2)), 'not a recasting plan: a dict of plain data is expected'),
        (broken(glue=[3]), "plan entry 'a': 3 is no path of a module"),
        (broken(in_shape=[2, 2]), r"plan entry 'a': its shapes are \(C, H, W\), got \(2, 2\)"),
        (broken(extra=1), 'not a recasting plan: its entries hold extra too much or too little'),
        (broken(source=dict(kind='x')), 'not a recasting plan: .*missing 3 required'),
        (broken(action='burn'), "plan entry 'a': action 'burn' is none of recast, rebuild, keep"),
        (broken(action='recast'), "plan entry 'a': action 'recast' and target None do not fit"),
        (broken(action='recast', target='os.system'), "'recast' and target os.system do not fit"),
        (broken(out_channels=0), "plan entry 'a': 0 is no number of channels or pixels"),
        (broken(in_channels='4'), "plan entry 'a': '4' is no number of channels"),
        (broken(out_shape=[0, 2, 2]), "plan entry 'a': 0 is no number of channels"),
    ):
        with pytest.raises(ValueError, match=message):
            Plan.from_dict(plan)


MISTAKES = [
    ([], 'a recipe is a list of dict.source=…, target=…., got '),
    ('backbone.layer1.*', 'a recipe is a list of dict'),
    ([3], 'a rule of a recipe is dict.source=…, target=…., got 3'),
    ([dict(source='backbone.layer1.0')], 'a rule of a recipe is dict'),
    ([dict(source='a', target=CONV, width=1)], 'a rule of a recipe is dict'),
    ([dict(source=3, target=CONV)], 'the source of a rule is a pattern or a list of patterns, got 3'),
    ([dict(source=[], target=CONV)], 'the source of a rule is a pattern or a list of patterns, got '),
    ([dict(source='backbone.layer1.0', target=None)], r"the target for \['backbone.layer1.0'\] names no type: None"),
    ([dict(source='backbone.layer1.0', target=dict(width_ratio=1))], 'names no type'),
    ([rule('backbone.layer1.0', type=PlanEntry)], 'is not a config: model.type: .*PlanEntry.* is not registered'),
    ([rule('backbone.layer1.0', foo=nn.ReLU())], 'is not a config: model.foo is ReLU'),
    ([rule('backbone.layer9.0')], r"block path 'backbone.layer9.0' matches nothing \(nearest: backbone.layer3.0"),
    ([rule('backbone.layer9.*')], r"pattern 'backbone.layer9.\*' matches nothing \(nearest: "),
    ([rule(['backbone.layer1.0', 'backbone.layer1.*'])], "block 'backbone.layer1.0' is selected twice by the recipe"),
    ([rule('backbone.layer1.0'), rule('backbone.layer1.0')], 'selected twice'),
    ([rule('backbone.layer1'), rule('backbone.layer1.0')], "blocks 'backbone.layer1' and 'backbone.layer1.0' overlap"),
    (
        [rule('backbone.layer2.*'), rule('backbone.layer1.*')],
        "source 'backbone.layer1.0' stands before 'backbone.layer2.2' in the network: write the rules in that order",
    ),
    (
        [rule('backbone.layer2.0', stride=1)],
        r'maps \(4, 32, 32\) to \(8, 16, 16\), so its target needs stride 2, not 1',
    ),
    ([rule('backbone.layer1.0', in_channels=4)], 'sets in_channels, which the network decides: leave it out'),
    ([rule('backbone.layer1.0', width_ratio=1, out_channels=4)], 'sets both width_ratio and out_channels: choose one'),
    ([rule('backbone.layer1.*', width_ratio=[1, 1])], 'selects 3 blocks but width_ratio has 2 values'),
    (
        [rule('backbone.layer1.0', width_ratio=0)],
        "width_ratio for 'backbone.layer1.0' must be a positive number, got 0",
    ),
    ([rule('backbone.layer1.0', width_ratio=-1)], 'must be a positive number, got -1'),
    ([rule('backbone.layer1.0', width_ratio='half')], "must be a positive number, got 'half'"),
    ([rule('backbone.layer1.0', width_ratio=True)], 'must be a positive number, got True'),
    ([rule('backbone.layer1.0', width_ratio=float('nan'))], 'must be a positive number, got nan'),
    ([rule('backbone.layer1.0', width_ratio=float('inf'))], 'must be a positive number, got inf'),
    ([rule('backbone.layer1.0', width_ratio=0.1)], 'would have 0 channels: a whole number of at least 1 is needed'),
    ([rule('backbone.layer1.0', out_channels=0)], 'would have 0 channels'),
    ([rule('backbone.layer1.0', out_channels='64')], "would have '64' channels"),
    ([rule('backbone.layer1.0', out_channels=[4, 4])], r'would have \[4, 4\] channels'),
]


@pytest.mark.parametrize(('recipe', 'message'), MISTAKES)
def test_mistakes_in_a_recipe(resnet20, recipe, message):
    with pytest.raises(ValueError, match=message) as caught:
        make_plan(resnet20, recipe, (3, 32, 32))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('name', ['ConvBlok', 'os.system', 'mmrecast.Convblock', 'torch.nn.Conv2d'])
def test_an_unknown_target_lists_the_nearest_and_imports_nothing(resnet20, name):
    with pytest.raises(KeyError, match=f"'{name}' is not registered in mmrecast.block .nearest: "):
        make_plan(resnet20, [rule('backbone.layer1.0', type=name)], (3, 32, 32))


def test_targets_say_what_they_replace(resnet20, monkeypatch):
    monkeypatch.setattr(ConvBlock, 'replaces', ('conv', 'dense'))
    message = "ConvBlock cannot replace 'backbone.layer1.0', a basic block: it replaces conv, dense"
    with pytest.raises(ValueError, match=message):
        make_plan(resnet20, [rule('backbone.layer1.0')], (3, 32, 32))


def test_a_source_without_a_stride_is_refused():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.Conv2d(4, 4, 3)), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match=r"block '1' cannot be recast: no stride turns its input \(4, 8, 8\) into its"):
        make_plan(net, [rule('1')], (3, 8, 8))


def test_blocks_that_are_no_chain_are_refused(toys):
    net = toys.Wired(lambda net, x: net.blocks[1](net.blocks[0](x) + x))
    with pytest.raises(ValueError, match="the blocks around 'blocks.1' are not a chain"):
        make_plan(net, [rule('blocks.1')], (3, 8, 8))
    net = toys.Wired(lambda net, x: net.blocks[0](net.blocks[0](x)))
    with pytest.raises(ValueError, match="block 'blocks.0' .Block. is called 2 times"):
        make_plan(net, [rule('blocks.0')], (3, 8, 8))


def test_glue_that_changes_the_width_stands_in_the_way_unless_it_is_a_convolution(toys):
    class Doubling(nn.Module):
        def forward(self, x):
            return torch.cat([x, x], 1)

    def net(glue):
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), toys.Block(4, 4), glue, toys.Block(8, 8),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
        )  # fmt: skip

    message = r"the width of '1' cannot change: the glue behind it turns \(4, 8, 8\) into \(8, 8, 8\) without a conv"
    with pytest.raises(ValueError, match=message):
        make_plan(net(Doubling()), [rule('1', out_channels=2)], (3, 8, 8))
    assert make_plan(net(Doubling()), [rule('1')], (3, 8, 8)).steps == [0]
    plan = make_plan(net(nn.Conv2d(4, 8, 1)), [rule('1', out_channels=2)], (3, 8, 8))
    assert [(e.action, e.in_channels, e.out_channels) for e in plan.entries] == [('recast', 4, 2), ('keep', 8, 8)]


def test_without_some_blocks(resnet20):
    """Blocks that are kept after all are the network's own, whatever is recast around them."""
    plan = make_plan(resnet20, [rule('backbone.layer1.*')], (3, 16, 16))
    rest = plan.without(['backbone.layer1.1'])
    assert plan.without([]) == plan and [plan.entries[i].path for i in rest.steps] == [
        'backbone.layer1.0', 'backbone.layer1.2'
    ]  # fmt: skip
    student = replay(copy.deepcopy(resnet20), rest)
    kept, own = (network.get_submodule('backbone.layer1.1').state_dict() for network in (student, resnet20))
    assert kept.keys() == own.keys() and all(torch.equal(kept[name], own[name]) for name in own)
    assert Plan.from_dict(rest.to_dict()) == rest


@pytest.mark.parametrize('path', ['backbone.layer1.0', 'backbone.layer1.1'])
def test_without_a_block_beside_which_widths_change(resnet20, path):
    plan = make_plan(resnet20, [rule('backbone.layer1.0', width_ratio=0.5), rule('backbone.layer1.1')], (3, 16, 16))
    with pytest.raises(ValueError, match=rf"block '{path}' cannot be kept from the teacher: 2 channels .* has 4"):
        plan.without([path])
