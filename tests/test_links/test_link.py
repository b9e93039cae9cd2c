"""Links: what they compare, what they infer, and how a wrong one is refused."""

import pytest
import torch
from torch import nn

from mmrecast.links import LOGITS, LinkSpec, Reader, Tap, build_link
from mmrecast.registry import MODELS

MSE = dict(type='MSELoss')


@MODELS.register_module(name='PlusForTests')
class Plus(nn.Module):
    """A connector that shifts, with a reconstruction that doubles."""

    def __init__(self, in_channel, out_channel, num_classes=0, by=1.0):
        super().__init__()
        self.sizes, self.by = (in_channel, out_channel), by

    def forward(self, feature):
        return feature + self.by

    def reconstruct(self, feature):
        return 2 * feature


@MODELS.register_module(name='InferringForTests')
class Inferring(nn.Module):
    """A connector for whole lists that asks for the shapes, and is told its network."""

    takes_list = True

    def __init__(self, own, other, extra=None):
        super().__init__()
        self.own, self.other, self.extra = own, other, extra

    @classmethod
    def infer(cls, own, other):
        return dict(own=own, other=other)

    def bind(self, network):
        self.network = [network]

    def forward(self, features):
        return list(features)


@MODELS.register_module(name='WholeForTests')
class Whole(nn.Module):
    """A loss for whole lists, which needs sample numbers and may have labels."""

    takes_list = True

    def forward(self, s_features, t_features, sample_idx, gt_labels=None):
        return sum((s - t).abs().sum() for s, t in zip(s_features, t_features, strict=True)) + sample_idx.sum()


def nets():
    """Return a student and a teacher with two convolutions each, of unlike widths, and a classifier."""
    torch.manual_seed(0)

    def net(a, b):
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(b, 3))
        return nn.Sequential(nn.Conv2d(2, a, 1), nn.Conv2d(a, b, 1), head)

    return net(4, 6), net(5, 8)


def build(student, teacher, entry, connectors=None, aliases=None):
    """Build a link as an algorithm does, and return it with what its taps read."""
    spec = LinkSpec.from_config(0, entry, aliases or {}, student, teacher)
    x = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(1))
    networks = dict(student=student, teacher=teacher)
    values = {
        side: Reader(side, net, [Tap(LOGITS), *spec.taps(side)]).read(x)[1] for side, net in networks.items()
    }  # fmt: skip
    built = nn.ModuleDict()
    return build_link(spec, values, networks, 3, connectors or {}, built), values, built


def pair(student, teacher, **others):
    return dict(student=student, teacher=teacher, loss=MSE) | others


def test_logits_are_compared():
    link, values, _ = build(*nets(), pair('logits', 'logits'))
    s, t = values['student'][Tap(LOGITS)], values['teacher'][Tap(LOGITS)]
    assert link(values['student'], values['teacher']).item() == pytest.approx(((s - t) ** 2).mean().item())


def test_a_connector_gets_the_channels_of_its_tap_and_of_what_it_meets():
    regressor = dict(type='ConvModuleConnector', act_cfg=None)
    link, values, _ = build(*nets(), pair('0', '1', connector=regressor))
    conv = link.connector.conv_module.conv
    assert (conv.in_channels, conv.out_channels) == (4, 8)
    expected = ((conv(values['student'][Tap('0')]) - values['teacher'][Tap('1')]) ** 2).mean()
    assert link(values['student'], values['teacher']).item() == pytest.approx(expected.item(), rel=1e-6)
    assert {name.split('.')[0] for name, _ in link.named_parameters()} == {'connector'}
    # The student's connector meets what the teacher's connector gives, not the teacher's tap.
    narrow = dict(type='ConvModuleConnector', out_channel=7)
    link, _, _ = build(*nets(), pair('0', '1', connector=regressor, teacher_connector=narrow))
    assert link.connector.conv_module.conv.out_channels == 7
    link, _, _ = build(*nets(), pair('0', '1', teacher_connector=regressor))  # here it is the student's tap
    assert link.teacher_connector.conv_module.conv.out_channels == 4
    link, _, _ = build(*nets(), pair('0', '0', connector=dict(type='PlusForTests', out_channel=9, by=3.0), loss=Sum()))
    assert link.connector.sizes == (4, 9) and link.connector.by == 3.0  # what is given stays


class Sum(nn.Module):
    """A loss for anything."""

    def forward(self, s_feature, t_feature):
        return s_feature.sum() + t_feature.sum()


def test_lists_of_taps():
    student, teacher = nets()
    regressor = dict(type='ConvModuleConnector', act_cfg=None)
    entry = pair('both', ['0', '1'], connector=regressor)
    link, values, _ = build(student, teacher, entry, aliases=dict(student=dict(both=['0', '1'])))
    convs = [c.conv_module.conv for c in link.connector]
    assert [(c.in_channels, c.out_channels) for c in convs] == [(4, 5), (6, 8)]
    s, t = values['student'], values['teacher']
    expected = sum(((conv(s[Tap(p)]) - t[Tap(p)]) ** 2).mean() for conv, p in zip(convs, '01', strict=True))
    assert link(s, t).item() == pytest.approx(expected.item(), rel=1e-6)  # pair by pair, summed

    whole = dict(student=['0', '1'], teacher=['0', '1'], loss=dict(type='WholeForTests'))
    whole['connector'] = dict(type='InferringForTests', extra=5)
    link, values, _ = build(student, student, whole)
    assert link.connector.own == link.connector.other == [(4, 3, 3), (6, 3, 3)] and link.connector.extra == 5
    assert link.connector.network[0] is student
    index = torch.arange(4)
    assert link(values['student'], values['student'], None, index).item() == 6  # 0 + 1 + 2 + 3: nothing else differs
    with pytest.raises(ValueError, match='link 0: Whole needs sample_idx, which the data do not give'):
        link(values['student'], values['student'])


def test_losses_are_computed_in_float32_in_mixed_precision():
    class Seen(nn.Module):
        takes_list = True

        def forward(self, s_features, t_features):
            assert {one.dtype for one in (*s_features, *t_features)} == {torch.float32}
            return (s_features[0] @ t_features[0].transpose(-1, -2)).sum()  # autocast would make it bfloat16

    student, _ = nets()
    link, values, _ = build(student, student, dict(student=['0', '1'], teacher=['0', '1'], loss=Seen()))
    low = {side: {tap: v.bfloat16() for tap, v in taps.items()} for side, taps in values.items()}
    exact = {side: {tap: v.float() for tap, v in taps.items()} for side, taps in low.items()}
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = link(low['student'], low['student'])
    assert loss.dtype == torch.float32 and loss.item() == link(exact['student'], exact['student']).item()


def test_a_link_without_a_teacher_is_trained_by_labels():
    loss = dict(type='CrossEntropyLoss')
    link, values, _ = build(*nets(), dict(student='logits', loss=loss))
    labels = torch.tensor([0, 2, 1, 0])
    s = values['student'][Tap(LOGITS)].double()
    expected = (s.exp().sum(1).log() - s.gather(1, labels[:, None])[:, 0]).mean().item()
    assert link(values['student'], {}, labels).item() == pytest.approx(expected, rel=1e-6)


def test_a_link_without_a_student_reconstructs_what_the_teacher_gives():
    named = dict(shared=dict(type='PlusForTests', out_channel=2))
    entry = dict(teacher='1', teacher_connector='shared', loss=MSE, stage='pretrain')
    link, values, built = build(*nets(), entry, named)
    t = values['teacher'][Tap('1')]
    assert link({}, values['teacher']).item() == pytest.approx((t**2).mean().item(), rel=1e-6)  # (2t − t)²
    assert list(built) == ['shared'] and not list(link.children())[1:]  # a named connector is no part of the link
    with pytest.raises(ValueError, match='needs a method reconstruct.feature., which ConvModuleConnector has not'):
        build(*nets(), dict(entry, teacher_connector=dict(type='ConvModuleConnector', out_channel=3)), named)


@pytest.mark.parametrize(
    ('entry', 'error', 'message'),
    [
        (pair('0', '9'), KeyError, r"link 0: teacher tap: Sequential has no module '9' .nearest"),
        (pair('0', '1'), ValueError, r"link 0: MSELoss cannot compare student '0' \(4, 3, 3\) against teacher '1' "
         r"\(8, 3, 3\).*a connector can join them, e.g. dict\(type='ConvModuleConnector'\)"),
        (pair('0', '1', conector=MSE), ValueError, r"link 0 has no key 'conector' .nearest: connector"),
        (dict(student='0', teacher='0'), ValueError, 'link 0 needs a loss'),
        (dict(loss=MSE), ValueError, 'link 0 needs a tap'),
        (dict(teacher='0', loss=MSE), ValueError, 'has no student tap: then teacher_connector=… is what trains'),
        (dict(student='0', loss=MSE, teacher_connector=MSE), ValueError, 'a teacher_connector but no teacher tap'),
        (pair('0', '0', stage='finetune'), ValueError, "stage must be one of pretrain, train, got 'finetune'"),
        (pair('0', '0', warmup=20), ValueError, 'warmup is a share of the stage, from 0 to 1, got 20'),
        (pair('0', '0', name=3), ValueError, 'name must be a string, got 3'),
        (pair('0', '0', connector='shard'), KeyError, r"link 0: there is no connector 'shard' .*nearest: shared"),
        (pair('0', '0', connector=dict(type='ConvModulConnector')), KeyError, 'link 0: connector.*ConvModuleConnector'),
        (pair('0', '0', connector=dict(type='ConvModuleConnector', stried=2)), TypeError,
         r"link 0: connector: ConvModuleConnector takes no argument 'stried' .nearest: stride"),
        (dict(student='0', loss=MSE, connector=dict(type='ConvModuleConnector')), TypeError,
         "link 0: connector: ConvModuleConnector needs the argument 'out_channel', which is not given"),
        (pair('0', '0', loss=dict(type='MSELoss', wieght=2)), TypeError,
         "link 0: loss: MSELoss takes no argument 'wieght'"),
        (pair('0', '0', loss=dict(loss_weight=2)), ValueError, r'link 0: loss is given as dict\(type=…\)'),
        (pair(['0', '1'], '0'), ValueError, 'link 0: a list of taps on one side against a single one on the other'),
        (pair(['0', '1'], ['0']), ValueError, 'link 0: 2 taps of the student, 1 of the teacher'),
        (pair('0', '0', connector=dict(type='ConvModuleConnector', in_channel=9)), ValueError,
         r"link 0: the connector ConvModuleConnector cannot take student tap '0' of shape \(4, 3, 3\)"),
        (3, ValueError, r'link 0 must be a dict\(student=…'),
    ],
)  # fmt: skip
def test_wrong_links(entry, error, message):
    with pytest.raises(error, match=message):
        build(*nets(), entry, dict(shared=dict(type='PlusForTests')))


def test_logits_of_unlike_classes():
    student, teacher = nets()
    teacher[2][2] = nn.Linear(8, 10)
    with pytest.raises(
        ValueError, match='link 0: the student has 3 classes, the teacher 10: logits cannot be compared'
    ):
        build(student, teacher, pair('logits', 'logits'))


def test_a_teacher_tap_needs_a_teacher():
    with pytest.raises(ValueError, match='link 0 reads a teacher, but there is no teacher'):
        LinkSpec.from_config(0, pair('0', '0'), {}, nets()[0], None)
