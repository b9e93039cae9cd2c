"""A block that is left out: its weights, its start, and runs with it."""

import pytest
import torch
from tiny import CHAIN, classifier, config, differing, recasting, weights

from mmrecast.apis import load_student, train
from mmrecast.blocks import Skip
from mmrecast.registry import MODELS
from mmrecast.stages import Stage
from mmrecast.surgery.closed_form import Examples, start_target

OUT = 'backbone.layer2.1'
RECIPE = [dict(source=OUT, target='Skip'), dict(source='backbone.layer3.*', target='ConvBlock')]
STAGES = [dict(kind='recast', blocks='all', iters=2), dict(kind='finetune', iters=2)]


@pytest.mark.parametrize('sizes', [dict(in_channels=4, out_channels=8), dict(in_channels=4, out_channels=4, stride=2)])
def test_where_a_block_cannot_be_left_out(sizes):
    with pytest.raises(ValueError, match='Skip: a block can be left out only where it keeps width and size of the map'):
        Skip(**sizes)


def test_its_start_says_by_how_much_the_block_is_missed():
    """Against y = x + d before its ReLU, with x ≥ 0: Σ(x − relu(x + d))² over the variance of relu(x + d)."""
    generator = torch.Generator().manual_seed(0)
    x, d = torch.rand(8, 3, 5, 5, generator=generator), torch.randn(8, 3, 5, 5, generator=generator)
    y = (x + d).relu().double()
    missed = (x - y).square().sum() / (y - y.mean((0, 2, 3), keepdim=True)).square().sum()
    start = start_target(Skip(3, 3), [Examples([x], [x + d], True)], 1e-4)
    assert start.error == pytest.approx(missed.item(), rel=1e-6) and start.way == 'nothing to solve for'


@pytest.mark.parametrize(
    ('options', 'iters'),
    [
        (dict(start='closed_form', block_input='teacher'), 0),
        (dict(start='closed_form', earlier=0), 0),
        (dict(start='closed_form', earlier=0, compare='target'), 0),
        (dict(start='closed_form'), 2),
        (dict(), 2),
    ],
)
def test_it_stays_out_and_its_stage_trains_what_else_there_is(quick, tmp_path, options, iters):
    model = recasting(classifier(14), recipe=RECIPE, **options)
    result = train(config(model, STAGES), work_dir=str(tmp_path))
    assert [stage['iters'] for stage in result['stages']] == [iters, 2, 2, 2]
    student = load_student(tmp_path / 'student.pth')
    assert isinstance(student.get_submodule(OUT), Skip)
    assert differing(weights(tmp_path), student.state_dict()) == []
    assert [path for path in CHAIN if not any(True for _ in student.get_submodule(path).parameters())] == [OUT]
    x = torch.randn(2, 1, 8, 8)
    student.eval()
    without = [student.get_submodule(path) for path in CHAIN if path != OUT]
    backbone = student.backbone
    by_hand = student.head.fc(torch.nn.Sequential(*without)(backbone.bn1(backbone.conv1(x)).relu()).mean((2, 3)))
    assert torch.allclose(student(x), by_hand, atol=1e-6)


def test_it_cannot_take_the_place_of_a_block_that_halves_the_map():
    model = recasting(classifier(14), recipe=[dict(source='backbone.layer2.0', target='Skip')])
    with pytest.raises(ValueError, match='Skip: a block can be left out only where'):
        train(config(model, STAGES))


def test_a_schedule_draws_nothing(quick):
    """To see whether a target has weights it is built; a run's random numbers are as without that."""
    options = dict(start='closed_form', block_input='teacher')
    algorithm = MODELS.build(recasting(classifier(14), recipe=RECIPE, **options))
    before = torch.get_rng_state()
    stages = algorithm.expand([Stage.from_config(stage) for stage in STAGES])
    assert [stage.iters for stage in stages] == [0, 2, 2, 2] and torch.equal(torch.get_rng_state(), before)
