import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmrecast.models import build_network, load_weights, revert_cifar_resnet

TOOL = Path(__file__).parents[2] / 'tools' / 'model_converters' / 'convert_cifar_resnet.py'
CLASSIFIER = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmrecast.CifarResNet', depth=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=64),
)


@pytest.fixture
def run():
    spec = importlib.util.spec_from_file_location(TOOL.stem, TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return lambda *args: tool.main([str(arg) for arg in args])


@pytest.fixture
def checkpoints(tmp_path):
    """A network, its He-style checkpoint, and its converted one."""
    network = build_network(CLASSIFIER)
    he, ours = tmp_path / 'he.pth', tmp_path / 'ours.pth'
    torch.save(dict(state_dict=revert_cifar_resnet(network.state_dict())), he)
    torch.save(network.state_dict(), ours)
    return network, he, ours


def test_converts_and_reverts(run, checkpoints, tmp_path, capsys):
    network, he, ours = checkpoints
    state = network.state_dict()
    run(he, tmp_path / 'new.pth')
    assert capsys.readouterr().out == f'wrote {len(state)} entries to {tmp_path}/new.pth\n'
    loaded = load_weights(build_network(CLASSIFIER), tmp_path / 'new.pth').state_dict()
    assert all(torch.equal(v, loaded[k]) for k, v in state.items())
    run(ours, tmp_path / 'back.pth', '--revert')
    back, original = torch.load(tmp_path / 'back.pth'), torch.load(he)['state_dict']
    assert back.keys() == original.keys()
    assert all(torch.equal(back[k], original[k]) for k in original)


def test_a_file_is_written_over_only_when_asked_to(run, checkpoints):
    _, he, ours = checkpoints
    before = ours.read_bytes()
    with pytest.raises(SystemExit, match=f'error: {ours} exists; --force writes over it'):
        run(he, ours)
    assert ours.read_bytes() == before
    run(he, ours, '--force')
    assert ours.read_bytes() != before


def test_bad_files_are_refused(run, checkpoints, tmp_path):
    _, he, ours = checkpoints
    new = tmp_path / 'new.pth'
    with pytest.raises(SystemExit, match="'backbone.conv1.weight' is no entry of a He-style CIFAR ResNet"):
        run(ours, new)
    with pytest.raises(SystemExit, match='there is no folder'):
        run(he, tmp_path / 'nowhere' / 'new.pth')
    torch.save([1], tmp_path / 'list.pth')
    with pytest.raises(SystemExit, match='holds no state_dict, but list'):
        run(tmp_path / 'list.pth', new)
    assert not new.exists()


def test_an_error_is_one_line_on_stderr(tmp_path):
    command = [sys.executable, str(TOOL), str(tmp_path / 'none.pth'), str(tmp_path / 'new.pth')]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count('\n')) == (1, '', 1)
    assert done.stderr.startswith('error: no checkpoint at')
