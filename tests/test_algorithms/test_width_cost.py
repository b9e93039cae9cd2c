import copy
from itertools import product
from math import prod

import pytest
import torch
from hand_graphs import IMAGE, A, B, conv, graph_of, plain, vector
from torch import nn

from mmrecast.algorithms.width_cost import WidthCost, build_cost
from mmrecast.analysis.complexity import convention_for, count
from mmrecast.models import build_network
from mmrecast.surgery.channel_graph import Layer, Segment
from mmrecast.surgery.channels import trace_channels
from mmrecast.surgery.width_rules import adjoined_groups
from mmrecast.surgery.widths import narrow, widths_of

# ---- by hand ---------------------------------------------------------------------------------------------------------


def test_independent_groups():
    # E[a] = 8/4 + 3/4 · 4 = 5, E[b] = 4/2 + 1/2 = 2.5: 16 · 9 · 3 · 5 + 16 · 5 · 2.5, and 2.5 · 10 of the classifier
    divisors, chances = dict(a=(1, 2), b=(1, 4)), dict(a=vector(0.25, 0.75), b=vector(0.5, 0.5))
    assert WidthCost(plain(), divisors)(chances) == 2360
    assert WidthCost(plain(), divisors, classifier=True)(chances) == 2385
    assert WidthCost(plain(), divisors, 'params')(chances) == 27 * 5 + 5 * 2.5
    assert WidthCost(plain(), divisors, 'params', classifier=True)(chances) == 27 * 5 + 5 * 2.5 + 25


def test_a_group_without_an_entry_keeps_its_width():
    cost = WidthCost(plain(), dict(a=(2, 4), b=(1, 4)), 'params')
    assert cost({}) == 27 * 8 + 8 * 4
    assert cost(dict(b=vector(0.5, 0.5))) == 27 * 8 + 8 * 2.5
    assert cost(dict(a=vector(0.5, 0.5))) == 27 * 3 + 3 * 4
    assert cost.exact({}) == 248 and cost.exact(dict(a=4)) == 27 * 2 + 2 * 4


def test_input_and_output_of_one_group():
    """E[c_in · c_out] of one choice: half of 8 · 8 and half of 4 · 4, not 6 · 6."""
    cost = WidthCost(graph_of(conv('a', (A,), (A,), kernel=9, positions=4)), dict(a=(1, 2)))
    assert cost(dict(a=vector(0.5, 0.5))) == 4 * 9 * 40


@pytest.mark.parametrize(('groups', 'per_output'), [(8, 1), (2, 4)])
def test_depthwise_and_grouped(groups, per_output):
    """Groups go with the channels: the weights of each filter stay."""
    cost = WidthCost(graph_of(conv('a', (A,), (A,), groups=groups, kernel=9, positions=4)), dict(a=(1, 2)))
    assert cost(dict(a=vector(0.5, 0.5))) == 4 * 9 * per_output * 6


def test_depthwise_over_two_groups_side_by_side():
    both = (A, B)
    cost = WidthCost(graph_of(conv('a', both, both, groups=12, kernel=9)), dict(a=(1, 2), b=(1, 4)))
    assert cost(dict(a=vector(0.5, 0.5), b=vector(0.0, 1.0))) == 9 * (6 + 1)


def test_concatenation_of_the_own_group_and_another():
    # E[(a + b) · a] = E[a²] + E[b] · E[a]
    graph = graph_of(conv('b', IMAGE, (B,)), conv('a', (A, B), (A,), kernel=9))
    chances = dict(a=vector(0.5, 0.5), b=vector(0.5, 0.5))
    assert WidthCost(graph, dict(a=(1, 2), b=(1, 4)))(chances) == 3 * 2.5 + 9 * (40 + 2.5 * 6)


def test_a_flattened_map_counts_every_place():
    fc = Layer('fc', 'linear', (Segment('a', 8, repeat=49),), (Segment('fc', 10),))
    graph = graph_of(conv('a', IMAGE, (A,)), fc, shape=(3, 224, 224))
    assert WidthCost(graph, dict(a=(1, 2)))(dict(a=vector(0.0, 1.0))) == 3 * 4 + 4 * 49 * 10


# ---- against other computations --------------------------------------------------------------------------------------


class Tangled(nn.Module):
    """Residual sums, a depthwise and a grouped convolution, a concatenation, a layer that runs twice, a classifier."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.same = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.branch = nn.Conv2d(8, 12, 1)
        self.norm = nn.BatchNorm2d(12)
        self.grouped = nn.Conv2d(12, 12, 3, stride=2, padding=1, groups=4)
        self.mixed = nn.Conv2d(20, 16, 1)
        self.fc = nn.Linear(16 * 4, 5)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.same(x)
        x = x + self.same(self.depthwise(x).relu())
        y = self.grouped(self.norm(self.branch(x)).relu())
        z = self.mixed(torch.cat([nn.functional.max_pool2d(x, 2), y], 1))
        return self.fc(nn.functional.adaptive_avg_pool2d(z, 2).flatten(1))


TANGLED = dict(stem=(1, 2, 4), branch=(1, 2), mixed=(2, 4, 8))


@pytest.fixture(scope='module')
def tangled():
    network = Tangled().eval()
    graph = trace_channels(network, (3, 8, 8))
    counts = {
        choice: count(
            narrow(copy.deepcopy(network), widths_of(graph, dict(zip(TANGLED, choice, strict=True)))),
            (3, 8, 8), 'imagenet',
        )
        for choice in product(*TANGLED.values())
    }  # fmt: skip
    return graph, counts


@pytest.mark.parametrize('kind', ['mults', 'params'])
def test_expectation_over_all_joint_choices(kind, tangled):
    """The mean of what is counted in every one of the 18 narrow networks, weighted with its probability."""
    graph, counts = tangled
    cost = WidthCost(graph, TANGLED, kind, classifier=True)
    generator = torch.Generator().manual_seed(1)
    chances = {name: torch.rand(len(own), generator=generator).double().softmax(0) for name, own in TANGLED.items()}
    expected = sum(
        prod(chances[name][TANGLED[name].index(d)].item() for name, d in zip(TANGLED, choice, strict=True))
        * getattr(counted, kind)
        for choice, counted in counts.items()
    )
    assert len({getattr(counted, kind) for counted in counts.values()}) == 18
    assert cost(chances).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize('kind', ['mults', 'params'])
def test_a_certain_choice_costs_what_is_counted(kind, tangled):
    graph, counts = tangled
    cost = WidthCost(graph, TANGLED, kind, classifier=True)
    for choice, counted in counts.items():
        chosen = dict(zip(TANGLED, choice, strict=True))
        assert cost.exact(chosen) == cost(one_hot(TANGLED, chosen)).item() == getattr(counted, kind)


def one_hot(divisors, chosen):
    return {name: vector(*[float(d == chosen[name]) for d in own]) for name, own in divisors.items()}


@pytest.mark.parametrize('shape', [(3, 64, 64), (3, 96, 96)])
@pytest.mark.parametrize('name', ['resnet18', 'mobilenet_v2', 'vgg11_bn', 'resnext50_32x4d', 'googlenet'])
def test_known_networks_cost_what_is_counted(name, shape):
    options = dict(init_weights=False) if name == 'googlenet' else {}
    with torch.device('meta'):
        network = build_network(dict(type='TorchvisionClassifier', name=name, **options)).eval()
    graph = trace_channels(network, shape)
    groups = adjoined_groups(graph, above=31, rule='basic')
    divisors = {
        name: [d for d in (1, 2, 4) if all(n % d == 0 for n in graph.groups[name].multiples)] for name in groups
    }
    choice = {name: own[i % len(own)] for i, (name, own) in enumerate(divisors.items())}
    counted = count(narrow(network, widths_of(graph, choice)), shape, convention_for(shape))
    assert set(choice.values()) == {1, 2, 4}
    for kind in ('mults', 'params'):
        cost = WidthCost(graph, divisors, kind)
        assert cost.exact(choice) == cost(one_hot(divisors, choice)).item() == getattr(counted, kind)


def test_the_papers_resnet50():
    """α = 4 at 224 pixels with torchvision's stem, counted by hand: 1.705 M weights, 1.031 G multiplications."""
    with torch.device('meta'):
        graph = trace_channels(build_network('torchvision:resnet50').eval(), (3, 224, 224))
    divisors = dict.fromkeys(adjoined_groups(graph), (1, 4))
    params, mults = (
        WidthCost(graph, divisors, kind, classifier=False).exact(dict.fromkeys(divisors, 4))
        for kind in ('params', 'mults')
    )
    assert (round(params / 1e6, 3), round(mults / 1e9, 3)) == (1.705, 1.031)


def test_gradients(tangled):
    cost = WidthCost(tangled[0], TANGLED, 'params')
    chances = [torch.rand(len(own)).double().softmax(0).requires_grad_() for own in TANGLED.values()]
    assert torch.autograd.gradcheck(lambda *values: cost(dict(zip(TANGLED, values, strict=True))), chances)


def test_gradient_by_hand():
    """∂/∂p of 27 E[a] + E[a] E[b], with E[b] = 2.5 and E[a] = 5."""
    chances = dict(a=vector(0.25, 0.75).requires_grad_(), b=vector(0.5, 0.5).requires_grad_())
    WidthCost(plain(), dict(a=(1, 2), b=(1, 4)), 'params')(chances).backward()
    assert chances['a'].grad.tolist() == [29.5 * 8, 29.5 * 4]
    assert chances['b'].grad.tolist() == [5 * 4, 5 * 1]


@pytest.mark.parametrize('size', [64, 65])
def test_the_classifier_counts_as_complexity_has_it(size):
    with_it = WidthCost(plain((3, size, 8)), {}, 'params').exact({}) == 27 * 8 + 8 * 4 + 4 * 10
    assert with_it == (convention_for((3, size, 8)) == 'imagenet')
    assert WidthCost(plain((3, 65, 65)), {}, 'params', classifier=False).exact({}) == 27 * 8 + 8 * 4


# ---- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('change', [nn.Module.float, nn.Module.half, nn.Module.double, lambda module: module.to('cpu')])
def test_sums_are_in_float64_whatever_the_model_is(change):
    """2^24 + 1 = 97 · 257 · 673 is the first number that float32 does not have."""
    layer = conv('a', (Segment('the image', 97),), (Segment('a', 257),), kernel=673)
    cost = change(WidthCost(graph_of(layer), dict(a=(1, 257))))
    assert cost.exact(dict(a=257)) == 97 * 673
    assert cost.exact({}) == cost.exact(dict(a=1)) == cost(dict(a=vector(1.0, 0.0))).item() == 2**24 + 1


@pytest.mark.parametrize(
    ('given', 'expected'),
    [(torch.float16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_type_of_the_result(given, expected):
    cost = WidthCost(plain(), dict(a=(1, 2)))(dict(a=vector(0.5, 0.5, dtype=given)))
    assert (cost.dtype, cost.shape, cost.item()) == (expected, (), 16 * 27 * 6 + 16 * 6 * 4)


def test_mixed_precision_leaves_it_alone():
    cost = WidthCost(plain(), dict(a=(1, 2), b=(1, 4)))
    chances = dict(a=vector(0.3, 0.7, dtype=torch.float32), b=vector(0.6, 0.4, dtype=torch.float32))
    with torch.autocast('cpu', torch.bfloat16):
        mixed = cost(chances)
    assert torch.equal(mixed, cost(chances)) and mixed.dtype == torch.float32


def test_it_is_no_part_of_a_checkpoint():
    assert not WidthCost(plain(), dict(a=(1, 2))).state_dict()


# ---- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (dict(type='mult'), r"a cost is one of mults, params, latency, got 'mult' \(nearest: mults\)"),
        ('mults', r"cost is given as dict\(type='mults'\), 'params' or 'latency', got 'mults'"),
        (dict(table='x'), r"cost is given as dict\(type='mults'\)"),
        (dict(type='latency'), "cost 'latency' needs table=…"),
        (dict(type='params', table='x.json'), "only cost 'latency' takes a table, not 'params'"),
        (dict(type='latency', tabel='x'), r"cost takes type, table and classifier, not 'tabel' \(nearest: table\)"),
    ],
)
def test_configs_that_are_no_costs(cfg, message):
    with pytest.raises(ValueError, match=message):
        build_cost(cfg, plain(), dict(a=(1, 2)))


@pytest.mark.parametrize(
    ('divisors', 'message'),
    [
        (dict(c=(1, 2)), r"the network has no width group 'c' \(nearest: fc\)"),
        (dict(a=()), r"divisors of 'a' must be different numbers, at least one, got \(\)"),
        (dict(a=(2, 2)), r"divisors of 'a' must be different numbers, at least one, got \(2, 2\)"),
        (dict(a=(1, 3)), "divisor=3 does not divide the 8 channels of 'a'"),
        (dict(a=(1, 0)), 'divisor must be a whole number of at least 1, got 0'),
        (dict(fc=(1, 2)), "'fc' cannot narrow: it is the network's output"),
    ],
)
def test_divisors_that_cannot_be(divisors, message):
    with pytest.raises(ValueError, match=message):
        WidthCost(plain(), divisors)


def test_a_fixed_group_may_keep_its_width():
    assert WidthCost(plain(), dict(fc=(1,))).exact(dict(fc=1)) == 16 * 27 * 8 + 16 * 8 * 4


def test_choices_that_are_none():
    cost = WidthCost(plain(), dict(a=(1, 2), b=(2, 4)))
    with pytest.raises(ValueError, match=r"no width group 'c' chooses its width here \(nearest: a, b\)"):
        cost(dict(c=vector(1.0)))
    with pytest.raises(ValueError, match="no width group 'c' chooses its width here"):
        cost.exact(dict(c=1))
    with pytest.raises(ValueError, match=r"'a' chooses among \(1, 2\), but probabilities are \(3,\)"):
        cost(dict(a=vector(0.5, 0.25, 0.25)))
    with pytest.raises(ValueError, match=r"'a' chooses among \(1, 2\), not 4"):
        cost.exact(dict(a=4))
