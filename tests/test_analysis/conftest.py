import json

import pytest

from mmrecast.analysis.complexity import Complexity
from mmrecast.analysis.latency import Latency


def stage(index=0, **fields):
    stage = dict(
        index=index, name=f'recast layer1.{index}', kind='recast', block=f'layer1.{index}', epochs=1,
        iters=10, images=1280, seconds=12.5, loss=0.1, relative_error_start=0.04, relative_error=0.02,
        top1=88.0, val_images=200,
    )  # fmt: skip
    return stage | fields


@pytest.fixture
def make_result():
    """Return a function that makes the result of a run, 88 % top-1 by default, under a teacher of 90 %."""

    def make(method='recasting', seed=0, top1=88.0, **fields):
        result = dict(
            method=method, name=f'{method}_{seed}', config=f'configs/distill/{method}.py', seed=seed,
            dataset='CIFAR10', data_root='/data', classes=10, teacher=dict(top1=90.0),
            input_shape=[3, 32, 32], images=3840, seconds=40.0, top1=top1, val_images=1000,
            stages=[stage(0), stage(1, relative_error=0.08, relative_error_start=None), stage(2)],
            machine=dict(cpu='a CPU', cores=2, threads=1, gpu=None, processes=1),
            versions=dict(torch='2.13.0', mmrecast='0.1.0'), plan=None,
        )  # fmt: skip
        return result | fields

    return make


@pytest.fixture
def save_result(tmp_path, make_result):
    """Return a function that writes a result into a work directory of its own and returns that directory."""

    def save(name, **fields):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / 'result.json').write_text(json.dumps(make_result(**fields)), encoding='utf-8')
        return folder

    return save


@pytest.fixture
def measures():
    """Complexities and latencies of a teacher and a student half its size."""
    complexities = dict(
        teacher=Complexity(800_000, 120_000_000, 500_000, (), 'cifar'),
        student=Complexity(400_000, 60_000_000, 250_000, (), 'cifar'),
    )
    latencies = dict(
        teacher=Latency(10.0, 9.0, 11.0, 1.0, batch_size=2, repeats=7),
        student=Latency(5.0, 4.0, 6.0, 1.9, batch_size=2, repeats=7),
    )
    return complexities, latencies
