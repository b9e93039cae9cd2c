"""The configs of datasets in memory, built by mmengine's Runner as training builds them."""

from pathlib import Path

import pytest
import torch
from mmengine import Config
from mmengine.registry import METRICS, MODELS, DefaultScope
from mmengine.runner import Runner

from mmrecast.datasets import CIFAR10, CIFAR100, TensorDataset

FOLDER = Path(__file__).parents[2] / 'configs/distill/_base_/datasets'
# ImageNet's images have a folder of their own: see test_imagenet.py.
NAMES = sorted(path.stem for path in FOLDER.glob('*.py') if not path.stem.startswith('imagenet'))


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmrecast'):
        yield


def load(name: str, root: Path) -> Config:
    config = Config.fromfile(FOLDER / f'{name}.py')
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if 'data_root' in config[key].dataset:
            config[key].dataset.data_root = str(root)
    return config


@pytest.fixture
def root(make_stand_in, monkeypatch, tmp_path) -> Path:
    for cls in (CIFAR10, CIFAR100):
        stand_in = make_stand_in(cls, per_class=2)
        monkeypatch.setattr(cls, 'official', stand_in.archive)
        stand_in.write_tar(tmp_path)
    return tmp_path


def test_all_are_tested():
    assert NAMES == ['cifar10', 'cifar100', 'digits']


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('name', NAMES)
def test_one_epoch(name, root, workers, monkeypatch):
    monkeypatch.setattr(TensorDataset, '__getitem__', lambda *_: pytest.fail('fetched sample by sample'))
    config = load(name, root)
    config.train_dataloader.num_workers = workers
    loader = Runner.build_dataloader(config.train_dataloader, seed=0)
    preprocessor = MODELS.build(config.data_preprocessor)
    seen = []
    for batch in loader:
        prepared = preprocessor(batch, training=True)
        assert prepared['inputs'].shape[1:] == tuple(config.data_preprocessor.input_shape)
        assert prepared['inputs'].isfinite().all()
        assert prepared['data_samples']['gt_label'].equal(loader.dataset.labels[batch['sample_idx']])
        seen.append(batch['sample_idx'])
    used = torch.cat(seen).unique()
    count = len(loader.dataset)
    assert len(used) == len(torch.cat(seen)) == (count // 128 * 128 if config.train_dataloader.drop_last else count)
    assert torch.cat(seen).tolist() != list(range(len(used)))
    assert len(seen[0]) == min(128, len(loader.dataset))


@pytest.mark.parametrize('name', NAMES)
def test_validation(name, root):
    config = load(name, root)
    assert config.test_dataloader == config.val_dataloader and config.test_evaluator == config.val_evaluator
    assert config.val_cfg == config.test_cfg == {}
    (batch,) = Runner.build_dataloader(config.val_dataloader)
    assert batch['sample_idx'].tolist() == list(range(len(batch['gt_label'])))
    metric = METRICS.build(config.val_evaluator)
    assert metric.topk == ((1, 5) if name == 'cifar100' else (1,))


def test_statistics_of_the_digits(root):
    config = load('digits', root)
    dataset = Runner.build_dataloader(config.train_dataloader).dataset
    inputs = MODELS.build(config.data_preprocessor)(dataset.__getitems__(range(len(dataset))))['inputs']
    assert abs(inputs.mean()) < 0.001 and abs(inputs.std() - 1) < 0.001


def test_real_images_are_normalised_by_the_cifar10_config():
    root = Path.home() / '.cache/mmrecast'
    if not (root / 'test/truck').is_dir():
        pytest.skip('no CIFAR-10 tree in ~/.cache/mmrecast')
    config = load('cifar10', root)
    config.val_dataloader.dataset.num_samples = 500
    (batch,) = Runner.build_dataloader(config.val_dataloader)
    inputs = MODELS.build(config.data_preprocessor)(batch)['inputs']
    assert abs(inputs.mean()) < 0.2 and 0.9 < inputs.std() < 1.3
