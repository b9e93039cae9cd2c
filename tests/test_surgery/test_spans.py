"""Flat networks: which modules make a block, and what surgery does with them."""

import copy

import pytest
import torch
from torch import nn

from mmrecast.blocks import ConvBlock, SourceInfo
from mmrecast.models import build_network
from mmrecast.registry import MODELS
from mmrecast.stages import Stage
from mmrecast.surgery.apply import check_plan, replay
from mmrecast.surgery.chain import find_chain
from mmrecast.surgery.plan import Plan, make_plan
from mmrecast.surgery.spans import block_at, find_spans
from mmrecast.surgery.student_file import Origin, load_student, save_student

SHAPE = (3, 32, 32)
VGG = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmrecast.CifarVGG', depth=8, widths=(4, 6, 8, 10, 12), hidden=14),
    head=dict(type='LinearClsHead', num_classes=5, in_channels=14),
)
CONVS = [f'backbone.features.{i}' for i in (0, 4, 8, 12, 16)]
HALF = [dict(source='backbone.features.*', target=dict(type='ConvBlock', width_ratio=0.5))]


@pytest.fixture
def vgg(registered):
    torch.manual_seed(0)
    net = build_network(VGG)
    net.train()(torch.randn(16, *SHAPE))
    return net.eval()


def test_a_block_is_a_convolution_with_norm_and_activation_up_to_the_pooling(vgg):
    chain = find_chain(vgg, SHAPE)
    assert chain.paths == CONVS and chain.stem == () and not chain.breaks
    f = 'backbone.features.'
    assert [b.span for b in chain.blocks] == [(f'{f}{i + 1}', f'{f}{i + 2}') for i in (0, 4, 8, 12, 16)]
    assert [b.glue for b in chain.blocks[:2]] == [(f'{f}3',), (f'{f}7',)]
    assert chain.blocks[-1].glue == (
        f'{f}19', 'backbone.pool', 'backbone.flatten', 'backbone.hidden.0', 'backbone.hidden.1', 'head.fc',
    )  # fmt: skip
    assert chain.blocks[1].source == SourceInfo('conv', 4, 6, 1, None, 3, 1)
    assert (chain.blocks[1].in_shape, chain.blocks[1].out_shape) == ((4, 16, 16), (6, 16, 16))
    assert chain.blocks[1].output == f'{f}6'
    assert find_chain(vgg, SHAPE, ('backbone.features.*',)) == chain
    assert find_chain(vgg, SHAPE, ('backbone.features.4',)) == chain


@pytest.mark.parametrize(
    ('name', 'size', 'convs'),
    [('alexnet', 64, [0, 3, 6, 8, 10]), ('vgg11', 32, [0, 3, 6, 8, 11, 13, 16, 18])],
)
def test_torchvisions_flat_networks(name, size, convs):
    net = build_network(dict(type='TorchvisionClassifier', name=name, num_classes=5)).eval()
    chain = find_chain(net, (3, size, size))
    assert chain.paths == [f'features.{i}' for i in convs]
    assert [b.span for b in chain.blocks] == [(f'features.{i + 1}',) for i in convs]


@pytest.mark.filterwarnings('ignore:Unnecessary conv bias')
@pytest.mark.parametrize('norm', [False, True])
def test_mmpretrains_vgg_has_one_module_per_block(norm):
    backbone = dict(type='VGG', depth=11, num_classes=5, norm_cfg=dict(type='BN') if norm else None)
    net = build_network(dict(type='mmpretrain.ImageClassifier', backbone=backbone, head=dict(type='ClsHead'))).eval()
    chain = find_chain(net, (3, 224, 224))
    assert len(chain.blocks) == 8 and not any(b.span for b in chain.blocks)
    assert {b.source.kind for b in chain.blocks} == {'conv'} and not chain.breaks


class Shared(nn.Module):
    """One ReLU for all convolutions, and one that is a function."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(n, 4, 3, 1, 1) for n in (3, 4, 4))
        self.bn, self.relu, self.fc = nn.BatchNorm2d(4), nn.ReLU(), nn.Linear(4, 5)

    def forward(self, x):
        x = torch.relu(self.relu(self.a(x)))
        x = self.relu(self.bn(self.b(x)))
        return self.fc((self.c(x) * 2).mean((2, 3)))


def test_what_is_shared_or_not_called_directly_behind_is_no_part_of_a_span():
    spans = find_spans(Shared().eval(), ['a', 'b', 'c'], torch.randn(2, 3, 8, 8))
    assert spans == dict(a=(), b=('bn',), c=())


def test_a_stem_can_be_named(registered):
    net = build_network(dict(type='TorchvisionClassifier', name='resnet18', num_classes=5)).eval()
    chain = find_chain(net, SHAPE, ('conv1',))
    assert chain.paths[:2] == ['conv1', 'layer1.0'] and len(chain.paths) == 9
    assert (chain.blocks[0].span, chain.blocks[0].glue) == (('bn1', 'relu'), ('maxpool',))
    assert find_chain(net, SHAPE).paths == chain.paths[1:]
    plan = make_plan(net, [dict(source='conv1', target=dict(type='ConvBlock', width_ratio=0.5))], SHAPE)
    student = check_plan(copy.deepcopy(net), plan)
    assert (student.conv1.conv.kernel_size, student.conv1.conv.padding) == ((7, 7), (3, 3))
    assert isinstance(student.bn1, nn.Identity) and student.layer1[0].conv1.in_channels == 32


@pytest.mark.parametrize('source', ['backbone.features.1', 'backbone.features.3', 'head.fc'])
def test_what_stands_between_convolutions_is_no_source(vgg, source):
    with pytest.raises(ValueError, match=rf"'{source}' selects no block but \w+: a source is a convolution"):
        find_chain(vgg, SHAPE, (source,))


def test_convolutions_beside_other_blocks_are_no_chain_of_their_own():
    """Branches: what looks flat is given up where its convolutions do not follow one another."""

    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))
            self.two = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))
            self.fc = nn.Linear(4, 5)

        def forward(self, x):
            return self.fc((self.one(x) + self.two(x)).mean((2, 3)))

    assert find_chain(Branches().eval(), (3, 8, 8)).blocks == ()


def test_a_plan_of_spans_is_carried_out(vgg):
    plan = make_plan(vgg, HALF, SHAPE)
    student = check_plan(copy.deepcopy(vgg), plan)
    features = student.backbone.features
    assert [features[i].conv.out_channels for i in (0, 4, 8, 12, 16)] == [2, 3, 4, 5, 6]
    assert all(isinstance(features[i + k], nn.Identity) for i in (0, 4, 8, 12, 16) for k in (1, 2))
    assert student.backbone.hidden[0].in_features == 6
    x = expected = torch.randn(2, *SHAPE)
    for i in (0, 4, 8, 12, 16):
        block = features[i]
        expected = torch.max_pool2d(torch.relu(block.bn(block.conv(expected))), 2)
    assert torch.equal(features(x), expected)


def test_a_block_that_is_kept_is_rebuilt_behind_a_narrower_one(vgg):
    plan = make_plan(vgg, [dict(source=CONVS[1], target=dict(type='ConvBlock', out_channels=2))], SHAPE)
    assert [e.action for e in plan.entries] == ['keep', 'recast', 'rebuild', 'keep', 'keep']
    student = check_plan(copy.deepcopy(vgg), plan)
    rebuilt, norm = student.backbone.features[8], student.backbone.features[9]
    assert (rebuilt.in_channels, rebuilt.out_channels, norm.num_features) == (2, 8, 8)
    assert torch.equal(student.backbone.features[12].weight, vgg.backbone.features[12].weight)


def test_a_student_is_recast_again_and_written_and_read(vgg, tmp_path):
    first = make_plan(vgg, [dict(source=CONVS[:2], target=dict(type='ConvBlock', width_ratio=0.5))], SHAPE)
    student = replay(copy.deepcopy(vgg), first).eval()
    chain = find_chain(student, SHAPE)
    assert chain.paths == CONVS and [len(b.span) for b in chain.blocks] == [0, 0, 2, 2, 2]
    again = make_plan(student, [dict(source=CONVS[1:], target=dict(type='ConvBlock', width_ratio=0.5))], SHAPE)
    twice = check_plan(copy.deepcopy(student), again)
    assert [twice.get_submodule(p).conv.out_channels for p in CONVS] == [2, 2, 4, 5, 6]
    save_student(tmp_path / 's.pth', twice, Origin(None, again))
    x = torch.randn(2, *SHAPE)
    loaded = load_student(tmp_path / 's.pth', model=replay(build_network(VGG), first))
    assert torch.equal(loaded(x), twice.eval()(x))


def test_the_target_of_a_convolution_takes_its_kernel():
    net = build_network(dict(type='TorchvisionClassifier', name='alexnet', num_classes=5)).eval()
    plan = make_plan(net, [dict(source='features.0', target=dict(type='ConvBlock', out_channels=25))], (3, 64, 64))
    target = dict(type='ConvBlock', out_channels=25, in_channels=3, stride=4, kernel_size=11, padding=2)
    assert plan.entries[0].target == target
    assert check_plan(net, plan).features[3].in_channels == 25
    own = [dict(source='features.0', target=dict(type='ConvBlock', kernel_size=11, padding=2))]
    assert make_plan(build_network(dict(type='TorchvisionClassifier', name='alexnet')), own, (3, 64, 64)).steps == [0]


def test_a_plan_written_before_there_were_spans_is_read(vgg):
    plan = make_plan(vgg, HALF, SHAPE)
    data = plan.to_dict()
    assert Plan.from_dict(data) == plan
    for entry in data['entries']:
        del entry['span']
    assert [e.span for e in Plan.from_dict(data).entries] == [()] * 5


def test_a_block_of_several_modules_runs_as_one(vgg):
    x = torch.randn(2, 4, 16, 16)
    f = vgg.backbone.features
    block = block_at(vgg, CONVS[1], ('backbone.features.5', 'backbone.features.6'))
    assert torch.equal(block(x), torch.relu(f[5](f[4](x))))
    assert block_at(vgg, CONVS[1]) is f[4]


def recasting(vgg, **options):
    cfg = dict(type='Recasting', teacher=vgg, data_preprocessor=dict(type='BatchPreprocessor', input_shape=SHAPE))
    return MODELS.build(cfg | options)


def test_a_stage_compares_behind_the_next_activation_and_trains_up_to_it(vgg):
    torch.manual_seed(0)
    algorithm = recasting(vgg, recipe=HALF)
    stages = algorithm.expand([Stage('recast', iters=1), Stage('finetune', iters=1)])
    assert [s.block for s in stages] == [*CONVS, None]
    images = torch.randn(8, *SHAPE)
    algorithm.begin_stage(stages[0])
    algorithm.train()
    losses = algorithm.loss(images, None)
    f, t = copy.deepcopy(algorithm.student).train().backbone.features, vgg.backbone.features
    s_out = f[6](f[5](f[4](f[3](f[0](images)))))
    expected = (s_out - t[:7](images)).square().mean()
    assert losses['loss_block'].item() == pytest.approx(expected.item(), rel=1e-5) and expected > 1e-3
    losses['loss_block'].backward()
    trained = {n for n, p in algorithm.student.named_parameters() if p.grad is not None}
    assert trained == {
        f'backbone.features.{n}'
        for n in ('0.conv.weight', '0.bn.weight', '0.bn.bias', '4.weight', '5.weight', '5.bias')
    }


def test_the_closed_form_start_of_a_span_reads_the_teachers_pre_activation(vgg):
    """The source is itself one convolution with BN and ReLU, so that the solution is exact, BN folded or not."""
    recipe = [dict(source=CONVS[1], target=dict(type='ConvBlock'))]
    algorithm = recasting(vgg, recipe=recipe, start=dict(type='closed_form', images=64, ridge=0.0))
    batches = [dict(inputs=torch.randn(32, *SHAPE)) for _ in range(2)]
    stage = algorithm.expand([Stage('recast', iters=1), Stage('finetune', iters=1)])[0]
    algorithm.begin_stage(stage, batches)
    assert isinstance(algorithm.student.get_submodule(CONVS[1]), ConvBlock)
    assert algorithm.relative_error(stage, batches) < 1e-6
    frozen = [f'backbone.features.{i}' for i in (8, 9)]
    assert not any(p.requires_grad for path in frozen for p in algorithm.student.get_submodule(path).parameters())
