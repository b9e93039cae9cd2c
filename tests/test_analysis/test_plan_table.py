import copy

import pytest
from torch import nn

from mmrecast.analysis.plan_table import arrow, format_plan, plan_rows


class Net(nn.Module):
    def __init__(self, *blocks):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1, bias=False)
        self.layer1 = nn.Sequential(*blocks)
        self.fc = nn.Linear(blocks[-1][-1].out_channels, 2)

    def forward(self, x):
        return self.fc(self.layer1(self.stem(x)).mean((2, 3)))


def conv(c_in, c_out, k):
    return nn.Conv2d(c_in, c_out, k, padding=k // 2, bias=False)


def source(kind, c_in, c_out, mid):
    return dict(kind=kind, in_channels=c_in, out_channels=c_out, stride=1, mid_channels=mid)


TEACHER = Net(nn.Sequential(conv(4, 2, 1), conv(2, 2, 3), conv(2, 8, 1)), nn.Sequential(conv(8, 8, 3)))
STUDENT = Net(nn.Sequential(conv(4, 2, 3)), nn.Sequential(conv(2, 8, 3)))
PLAN = dict(
    input_shape=[3, 4, 4],
    entries=[
        dict(
            path='layer1.0', action='recast', source=source('bottleneck', 4, 8, 2), in_shape=[4, 4, 4],
            out_shape=[8, 4, 4], target=dict(type='ConvBlock', in_channels=4, out_channels=2, stride=1),
            in_channels=4, out_channels=2,
        ),
        dict(
            path='layer1.1', action='rebuild', source=source('conv', 8, 8, None), in_shape=[8, 4, 4],
            out_shape=[8, 4, 4], target=None, in_channels=2, out_channels=8,
        ),
    ],
)  # fmt: skip


def test_rows_by_hand():
    rows = plan_rows(PLAN, TEACHER, STUDENT)
    bottleneck, rebuilt, rest, total = rows
    assert (bottleneck['source'], bottleneck['target']) == (
        'bottleneck 8×4×4 (inner width 2)',
        'ConvBlock 2×4×4',
    )
    assert bottleneck['params'] == (8 + 36 + 16, 72)
    assert bottleneck['mults'] == (16 * 60, 16 * 72)
    assert bottleneck['acts'] == (16 * (4 + 2 + 2), 16 * 4)
    assert rebuilt['target'] == 'rebuilt for 2 input channels'
    assert rebuilt['params'] == (576, 144)
    assert (rest['params'], rest['acts']) == ((12, 12), (48, 48))
    assert total['params'] == (60 + 576 + 12, 72 + 144 + 12)
    assert [row['kind'] for row in rows] == ['block', 'block', 'rest', 'total']


def test_convention_can_be_chosen():
    total = plan_rows(PLAN, TEACHER, STUDENT, 'imagenet')[-1]
    assert total['params'] == (648 + 16, 228 + 16)


def test_format_is_plain_text_with_every_row():
    text = format_plan(plan_rows(PLAN, TEACHER, STUDENT))
    assert '\x1b' not in text
    lines = text.split('\n')
    assert [line.split()[0] for line in lines if line.strip().startswith(('layer', 'total'))] == [
        'layer1.0', 'layer1.1', 'total',
    ]  # fmt: skip
    assert '60 → 72' in text
    assert '648 → 228' in text


def test_a_span_counts_with_its_convolution():
    """Of a flat network, a block is a convolution and the modules behind it; recast, these hold nothing."""
    teacher = nn.Sequential(conv(3, 4, 3), conv(4, 4, 1), nn.ReLU(), nn.MaxPool2d(2), conv(4, 2, 1))
    student = nn.Sequential(conv(3, 4, 1), nn.Identity(), nn.Identity(), nn.MaxPool2d(2), conv(4, 2, 1))
    entry = dict(
        path='0', action='recast', source=source('conv', 3, 4, None), in_shape=[3, 4, 4], out_shape=[4, 4, 4],
        target=dict(type='ConvBlock'), in_channels=3, out_channels=4, span=['1', '2'],
    )  # fmt: skip
    block, rest, total = plan_rows(dict(input_shape=[3, 4, 4], entries=[entry]), teacher, student)
    assert block['params'] == (108 + 16, 12) and block['acts'] == (48 + 64, 48)
    assert rest['params'] == (8, 8) and rest['acts'] == (64 + 16, 64 + 16)
    assert total['mults'] == (16 * 124 + 4 * 8, 16 * 12 + 4 * 8)


def test_without_networks_the_blocks_are_told_but_not_counted():
    rows = plan_rows(PLAN, None, STUDENT)
    assert [(row['kind'], row['target'], row['params']) for row in rows] == [
        ('block', 'ConvBlock 2×4×4', None), ('block', 'rebuilt for 2 input channels', None),
    ]  # fmt: skip
    assert arrow(rows[0]['acts']) == '–'


def test_errors():
    with pytest.raises(ValueError, match="not a plan: the field 'entries' is missing; it has input_shape"):
        plan_rows(dict(input_shape=[3, 4, 4]), TEACHER, STUDENT)
    wrong = copy.deepcopy(PLAN)
    wrong['entries'][1]['path'] = 'layer1.7'
    with pytest.raises(ValueError, match=r"the teacher has no block 'layer1.7' that the plan names \(nearest: layer1"):
        plan_rows(wrong, TEACHER, STUDENT)
