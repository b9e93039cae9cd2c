"""Every method of the zoo trains on some of CIFAR-10 (JPEG), from a good teacher: no NaN, its own term goes down."""

import shutil
import tarfile
from pathlib import Path

import pytest
import torch
from zoo import check_own_terms, leaves, own_terms, run

pytestmark = [pytest.mark.long, pytest.mark.usefixtures('quick')]

LEAVES = leaves('resnet56_resnet20_cifar10-short') | leaves('resnet56_resnet56_cifar10-short')
COMMON = leaves('resnet20b_alpha4_cifar10-short') | leaves('resnet20b_cifar10-short')  # a network and its narrow one
ALONE = ('backprop', 'recasting')
BUDGET = dict(crd=160)  # else 60
FIRST = dict(crd=32)  # an epoch: CRD's term rises while its memory, random at first, is being filled


@pytest.fixture(scope='module')
def data(shared_data, tmp_path_factory) -> Path:
    """200 training and 40 test images of every class."""
    folder = tmp_path_factory.mktemp('cifar10_jpeg')
    with tarfile.open(shared_data / 'cifar10_jpeg.tar.xz') as archive:
        most = dict(train=200, test=40)
        kept = [m for m in archive if m.isfile() and int(Path(m.name).stem) <= most[Path(m.name).parts[-3]]]
        archive.extractall(folder, kept, filter='data')
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize('method', LEAVES)
def test_every_method_trains(method, tmp_path, data, shared_data):
    budget = BUDGET.get(method, 60)
    changes = {'train_cfg.budget': budget, 'train_dataloader.batch_size': 64, 'val_dataloader.dataset.num_samples': 100}
    if method not in ('backprop', 'byot'):
        changes['model.teacher_ckpt'] = str(shared_data / 'resnet56_cifar10_jpeg.pth')
    result, losses = run(LEAVES[method], tmp_path, changes, data_root=str(data))
    assert result['complete'] and result['images'] == budget * 64
    check_own_terms({key: values[FIRST.get(method, 0) :] for key, values in losses.items()})
    assert own_terms(losses) or method in ALONE


@pytest.mark.parametrize('method', ['adjoined', 'dan'])
def test_two_networks_with_common_weights_train(method, tmp_path, data):
    changes = {'train_cfg.budget': 60, 'train_dataloader.batch_size': 64, 'val_dataloader.dataset.num_samples': 100}
    result, losses = run(COMMON[method], tmp_path, changes, data_root=str(data))
    assert result['complete'] and result['images'] == 60 * 64 and (tmp_path / 'full/student.pth').is_file()
    for (stage, name), values in losses.items():
        assert torch.tensor(values).isfinite().all()
        assert name != 'loss_task' or sum(values[-5:]) / 5 < values[0], f'{stage}: {values}'
