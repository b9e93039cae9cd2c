"""What the benchmark of scale counts and sums up, against counts by hand and plain loops."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

FOLDER = Path(__file__).parents[2] / 'tools' / 'benchmarks'
TOOL = FOLDER / 'recast_scale.py'
TINY = ('--batch-size', 4, '--start-images', 8, '--sampled', 2, '--seconds', 0, '--processes', 1)


@pytest.fixture(scope='module')
def tool(loaded):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loaded, 'keep_memory', lambda: True)  # it would stay so for other tests
        yield loaded


@pytest.fixture(scope='module')
def steps(tool):
    return sys.modules['stage_steps']


@pytest.fixture(scope='module')
def walked(steps):
    """ResNet-8 on images of 8x8 pixels: the algorithm at its end, and what its stages cost."""
    torch.manual_seed(0)
    algorithm = steps.recasting(8, 1, 8, 8)
    return algorithm, steps.walk(algorithm, sampled=2, batch_size=4, seconds=0)


def test_flops_of_every_stage_by_hand(walked):
    """Multiplications per image of each convolution: output positions x 9 x channels in x channels out.

    Stage 1 trains the stem and target 1 behind a frozen block 2 (its convolutions pass a gradient on, and cost twice);
    the teacher runs as far, without a backward pass. The image needs no gradient, so the stem costs twice, too.
    """
    stem = 64 * 9 * 3 * 16
    same = [positions * 9 * width * width for positions, width in ((64, 16), (16, 32), (4, 64))]
    down = [None, 16 * 9 * 16 * 32, 4 * 9 * 32 * 64]  # the first convolution of layers 2 and 3
    teacher = [2 * same[0], down[1] + same[1], down[2] + same[2]]  # per block
    target = [same[0], down[1], down[2]]  # per block: one convolution
    head = 64 * 10
    first = 2 * stem + 3 * target[0] + 2 * teacher[1] + stem + sum(teacher[:2])
    second = 2 * stem + 3 * sum(target[:2]) + 2 * teacher[2] + stem + sum(teacher)
    third = 2 * stem + 3 * sum(target) + 2 * head + stem + sum(teacher) + head
    last = third + head
    assert [cost.gflops * 1e9 / 2 for cost in walked[1]] == pytest.approx([first, second, third, last])


def test_the_first_and_the_last_stage_and_fine_tuning_are_measured(walked):
    _, (first, second, third, last) = walked
    assert [c.name for c in (first, second, third, last)] == [
        'recast backbone.layer1.0', 'recast backbone.layer2.0', 'recast backbone.layer3.0', 'finetune',
    ]  # fmt: skip
    assert all(c.ms > 0 and c.memory and c.whole_memory for c in (first, third, last))
    assert first.start_seconds > 0 and third.start_seconds > 0 and last.start_seconds is None
    assert (second.ms, second.memory) == (None, None)


def test_memory_of_fine_tuning_by_hand(walked):
    """Student: stem, three convolutions of 3x3 with BN and ReLU, classifier; every map is 4 images of floats."""
    _, (*_, last) = walked
    weights = 9 * (3 * 16 + 16 * 16 + 16 * 32 + 32 * 64) + 2 * (16 + 16 + 32 + 64) + 64 * 10 + 10
    teacher = 9 * (3 * 16 + 2 * 16 * 16 + 16 * 32 + 32 * 32 + 32 * 64 + 64 * 64)
    teacher += 2 * (16 + 2 * (16 + 32 + 64)) + 64 * 10 + 10
    statistics = 2 * (16 + 16 + 32 + 64) + 2 * (16 + 2 * (16 + 32 + 64))  # float32
    counts = 8 * (4 + 7)  # batches seen by each BN, int64
    assert last.memory.weights == 4 * (weights + teacher + statistics) + counts
    assert last.memory.gradients == 4 * weights and last.memory.optimizer == 8 * weights
    widths_positions = [(16, 64), (16, 64), (32, 16), (64, 4)]
    maps = [4 * 4 * width * positions for width, positions in widths_positions]
    least = 4 * 4 * 3 * 64 + 2 * sum(maps)  # the image; each BN's input, and its rectified output
    assert least <= last.memory.saved <= 1.1 * least
    assert last.memory.total == sum(getattr(last.memory, n) for n in ('weights', 'gradients', 'optimizer', 'saved'))


def test_what_is_kept_for_the_backward_pass_is_counted_once(tool):
    """A chain of two ReLUs after a product: x for the product's weight, each ReLU's output once."""

    class Chain(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(8, 8, bias=False)

        def forward(self, x):
            return self.fc(x).relu().relu()

    algorithm = nn.Module()
    algorithm.student, algorithm.teacher = Chain(), nn.Linear(8, 8)
    algorithm.teacher.requires_grad_(False)
    algorithm.data_preprocessor = lambda batch, training: batch
    batch = dict(inputs=torch.ones(5, 8), data_samples={})
    memory_of = sys.modules['stage_memory'].memory_of
    memory = memory_of(algorithm, lambda inputs, data_samples: dict(a=algorithm.student(inputs).sum()), batch)
    assert memory.saved == 3 * 5 * 8 * 4
    assert (memory.weights, memory.gradients, memory.optimizer) == (4 * (64 + 64 + 8), 4 * 64, 8 * 64)
    assert memory.cuda_peak is None


def test_whole_networks_keep_more_than_a_stage(walked):
    first = walked[1][0]
    assert first.whole_memory.saved > first.memory.saved
    assert first.whole_memory.gradients > first.memory.gradients
    assert first.whole_memory.weights == first.memory.weights


def test_the_walk_ends_recast_and_leaves_the_flags_of_fine_tuning(walked):
    algorithm, _ = walked
    assert all(p.requires_grad for p in algorithm.student.parameters())
    assert not any(p.requires_grad for p in algorithm.teacher.parameters())


@pytest.mark.parametrize('count, sampled, expected', [(9, 3, {0, 4, 8}), (27, 2, {0, 26}), (3, 8, {0, 1, 2})])
def test_stages_are_evenly_spaced(steps, count, sampled, expected):
    assert steps.spaced(count, sampled) == expected


def stage(steps, gflops, ms=None, start=None, held=None):
    memory = None if held is None else [steps.Memory(size, 0, 0, 0, None) for size in held]
    return steps.StageCost('s', gflops, ms, start, *(memory or []))


def test_a_run_is_summed_up_with_stages_between_interpolated(tool, steps):
    measured = dict(
        first=(1.0, 10.0, 2.0, (50, 100)), second=(2.0,), third=(3.0, 30.0, 4.0, (80, 80)), last=(4.0, 50.0)
    )
    stages = [stage(steps, *values) for values in measured.values()]
    run = tool.run_cost((20, 1, 32), stages, tool.Schedule(block_images=100, finetune_images=400), batch_size=10)
    assert (run.recast_ms, run.start_seconds, run.finetune_ms, run.blocks) == (20.0, 3.0, 50.0, 3)
    assert run.seconds == pytest.approx(3 * (3.0 + 10 * 0.020) + 40 * 0.050)
    assert run.teraflops == pytest.approx((100 * 6 + 400 * 4) / 1000)
    assert run.memory_ratio == 1.5


def run_of(tool, depth, width, size, teraflops, seconds):
    return tool.RunCost(depth, width, size, 3, [], 0, 0, 0, seconds, teraflops, 1)


def test_exponents_are_slopes_on_logarithmic_axes(tool):
    runs = [run_of(tool, *args) for args in (
        (20, 1, 32, 1, 7), (56, 1, 32, 10, 70), (20, 2, 32, 4, 14), (20, 1, 64, 100, 70), (20, 1, 128, 10_000, 700),
    )]  # fmt: skip
    found = tool.exponents(runs)
    assert {k: found[k] for k in ('depth', 'width', 'size')} == dict(depth=1.0, width=0.5, size=0.5)
    assert tool.exponents(runs[:2]) == dict(depth=1.0, width=None, size=None, all=1.0)
    slope, offset = tool.fit(runs[:2])
    assert 10 ** (offset + slope * 2) == pytest.approx(700)


def test_one_size_changes_at_a_time(tool):
    assert tool.grid((20, 56), (1, 2), (32, 64)) == [(20, 1, 32), (56, 1, 32), (20, 2, 32), (20, 1, 64)]


def test_the_command_line_writes_what_it_prints(call, tool, tmp_path):
    out, plot = tmp_path / 'scale.json', tmp_path / 'scale.svg'
    sizes = ('--depths', 8, 14, '--widths', 1, '--sizes', 8)
    status, printed, _ = call(*sizes, *TINY, '--out', out, '--plot', plot)
    assert status == 0
    content = json.loads(out.read_text())
    assert [(run['depth'], run['blocks'], len(run['stages'])) for run in content['runs']] == [(8, 3, 4), (14, 6, 7)]
    assert content['exponents']['width'] is None and f'{content["exponents"]["depth"]} (depth)' in printed
    assert content['processes'] is None and content['schedule'] == dict(block_images=7680, finetune_images=150_144)
    assert 'recast_scale.py --depths 8 14' in content['command'] and content['machine']['threads'] == 1
    assert 'ResNet-14 x1, 8 px' in printed and '<svg' in plot.read_text()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--sampled', 1], 'expected --sampled of at least 2, .* got 1 and 6'),
        (['--shared-iters', 2], 'expected .*--shared-iters of at least 3, two of which warm up; got 3 and 2'),
        (['--batch-size', 0], 'batch_size must be at least 1, got 0'),
        (['--out', 'no/such/scale.json'], '--out no/such/scale.json is no file in a folder that is there'),
        (['--depths', 9], 'CifarResNet: depth must be 6n.2 with basic blocks, got 9'),
    ],
)
def test_mistakes_are_told_in_one_line(call, tool, arguments, message):
    status, _, error = call(*arguments)
    assert status == 2 and re.match(f'error: .*{message}', error.splitlines()[-1])


# ---- processes ------------------------------------------------------------------------------------------------------


def test_two_processes_share_a_batch(tool, tmp_path):
    """Of ResNet-20; both runs report every kind of stage."""
    config = FOLDER.parents[1] / 'configs/distill/recasting/recasting_resnet20_convnet_cifar10-short.py'
    processes = sys.modules['process_steps']
    cfg = processes.shared_config(config, 8, 48, 3)
    assert cfg.train_dataloader.batch_size == 8 and cfg.train_dataloader.dataset.num_images == 48
    assert [(s['kind'], s['iters']) for s in cfg.train_cfg.stages] == [('recast', 3), ('finetune', 3)]
    found = processes.efficiency(config, 8, 3)
    assert found['kinds'].keys() == {'recast', 'finetune'} and found['processes'] == 2
    for kind in found['kinds'].values():
        one, several = (kind['images_per_second'][name] for name in ('one', 'several'))
        assert kind['efficiency'] == pytest.approx(several / (2 * one), abs=0.01)


def test_a_batch_that_cannot_be_shared_is_refused(tool):
    with pytest.raises(ValueError, match='a batch of 7 cannot be shared out evenly to 2 processes'):
        sys.modules['process_steps'].efficiency('no.py', 7, 3)


def test_a_run_that_fails_is_told(tool, tmp_path):
    config = tmp_path / 'wrong.py'
    config.write_text('model = dict(type="Nothing")\n')
    with pytest.raises(RuntimeError, match=r'the run on 1 process\(es\) failed: error: '):
        sys.modules['process_steps']._rates(config, 1, tmp_path / 'run')


def test_a_stage_is_timed_behind_its_first_iterations(tool, monkeypatch, tmp_path):
    """Two iterations warm up; the third to fifth, of 4, 4 and 2 images, take 5 s with the loader."""
    from types import SimpleNamespace

    module = sys.modules['step_times']
    clock = iter([10.0, 13.0, 15.0])
    monkeypatch.setattr(module, 'now', lambda: next(clock))
    hook, runner = module.StepTimes(), SimpleNamespace(work_dir=str(tmp_path))
    for size in (4, 4, 4):
        hook.after_train_iter(runner, 0, dict(inputs=range(size)))
    hook.after_train_epoch(runner)
    for size in (4, 2):
        hook.after_train_iter(runner, 0, dict(inputs=range(size)))
    hook.after_train_epoch(runner)
    hook.after_stage(runner, dict(kind='recast', iters=5, name='recast a'))
    hook.after_train_iter(runner, 0, dict(inputs=range(4)))
    hook.after_stage(runner, dict(kind='finetune', iters=1, name='finetune'))
    hook.after_train(runner)
    nothing = dict(gpu_utilisation=None, peak_bytes=None)
    assert json.loads((tmp_path / 'step_times.json').read_text()) == [
        dict(kind='recast', iters=5, stage='recast a', images_per_second=2.0, **nothing),
        dict(kind='finetune', iters=1, stage='finetune', images_per_second=None, **nothing),
    ]


def test_use_of_the_gpu_is_the_mean_since_a_stage_began(tool, monkeypatch):
    import threading

    module, asked = sys.modules['gpu_use'], iter([10.0, 90.0, 20.0, 60.0])
    monkeypatch.setattr(module, 'INTERVAL', 0)
    given, told = threading.Semaphore(0), threading.Semaphore(0)

    def ask():
        given.acquire()
        value = next(asked, 0.0)
        told.release()
        return value

    use = module.GpuUse(ask)
    for expected in (50.0, 40.0):
        use.begin()
        for _ in range(2):
            given.release()
            told.acquire()
        while len(use._samples) < 2:
            pass
        assert use.mean() == expected
    given.release()
    use.end()
    assert module.GpuUse().mean() is None  # no GPU here
