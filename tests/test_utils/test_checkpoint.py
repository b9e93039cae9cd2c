"""What mmengine writes is read back, damage is told in one line, files appear whole or not at all."""

import io
import json
import os
import pickle
import random
import stat
import struct
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from mmrecast.utils.checkpoint import copy_file, load_file, read_json, save_file, write_json, write_text


def test_random_states_come_back(tmp_path):
    state = {'python': random.getstate(), 'numpy': np.random.get_state(), 'torch': torch.get_rng_state()}
    save_file(state, tmp_path / 'rng.pth')
    expected = random.random(), np.random.rand(), torch.rand(1)
    loaded = load_file(tmp_path / 'rng.pth')
    random.setstate(loaded['python'])
    np.random.set_state(loaded['numpy'])
    torch.set_rng_state(loaded['torch'])
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected


def _runner(work_dir, **kwargs):
    from mmengine.model import BaseModel
    from mmengine.runner import Runner

    class Model(BaseModel):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 1)

        def forward(self, inputs, mode='loss'):
            return {'loss': self.linear(inputs).square().mean()}

    return Runner(
        Model(),
        str(work_dir),
        train_dataloader={
            'dataset': torch.randn(8, 2, generator=torch.Generator().manual_seed(0)),
            'sampler': {'type': 'DefaultSampler', 'shuffle': False},
            'collate_fn': lambda rows: {'inputs': torch.stack(rows)},
            'batch_size': 4,
        },
        train_cfg={'by_epoch': True, 'max_epochs': 2},
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9}},
        param_scheduler=[{'type': 'mmengine.OneCycleLR', 'eta_max': 0.1, 'total_steps': 4, 'by_epoch': False}],
        default_hooks={'logger': {'type': 'mmengine.LoggerHook', 'interval': 1}},
        experiment_name=work_dir.name,
        default_scope='mmengine',
        log_level='ERROR',
        **kwargs,
    )


def test_a_checkpoint_of_mmengine_loads_and_resumes(tmp_path):
    runner = _runner(tmp_path / 'run')
    runner.train()
    path = tmp_path / 'run' / 'epoch_2.pth'
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    loaded = load_file(path)
    assert set(loaded) >= {'meta', 'state_dict', 'message_hub', 'optimizer', 'param_schedulers'}
    torch.testing.assert_close(loaded['state_dict']['linear.weight'], runner.model.linear.weight.data, rtol=0, atol=0)

    losses = loaded['message_hub']['log_scalars']['train/loss']
    expected = runner.message_hub.get_scalar('train/loss')
    np.testing.assert_array_equal(losses.data[0], expected.data[0])
    assert len(losses.data[0]) == 4
    assert losses.mean() == expected.mean()

    scheduler = runner.param_schedulers[0]
    state = loaded['param_schedulers'][0]
    assert 'anneal_func' not in state
    kept = scheduler.anneal_func
    scheduler.load_state_dict(state)
    assert scheduler.anneal_func is kept
    assert state['total_steps'] == 4


def test_a_missing_file_names_the_nearest(tmp_path):
    save_file({}, tmp_path / 'epoch_12.pth')
    with pytest.raises(FileNotFoundError, match=r'no checkpoint at .*epoch_21\.pth \(nearest: epoch_12\.pth\)$'):
        load_file(tmp_path / 'epoch_21.pth')
    with pytest.raises(FileNotFoundError, match='no checkpoint at'):
        load_file(tmp_path / 'no_folder' / 'epoch_1.pth')


def _cut(path, share):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def _damaged_pickle(path):
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('a/data.pkl', b'\x80\x02}q\x00X')
        archive.writestr('a/version', b'3')


@pytest.mark.parametrize(
    'damage',
    [
        lambda path: path.write_bytes(b''),
        lambda path: path.write_bytes(b'not a checkpoint\n' * 20),
        lambda path: path.write_bytes(struct.pack('<100d', *range(100))),
        lambda path: _cut(path, 0.9),
        lambda path: _cut(path, 0.5),
        lambda path: _cut(path, 0.01),
        _damaged_pickle,
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=['empty', 'text', 'numbers', 'cut at 90 %', 'cut at half', 'cut at 1 %', 'damaged pickle', 'folder'],
)
def test_a_damaged_file_is_one_line(damage, tmp_path):
    path = tmp_path / 'damaged.pth'
    save_file({'w': torch.zeros(1000)}, path)
    damage(path)
    with pytest.raises(ValueError, match=r'damaged\.pth is not a readable checkpoint \(.+\)$') as caught:
        load_file(path)
    assert '\n' not in str(caught.value)


def test_a_torchscript_archive_is_refused(tmp_path):
    path = tmp_path / 'script.pth'
    scripted = torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2))
    torch.jit.save(scripted, str(path))
    with pytest.raises(ValueError, match=r'script\.pth') as caught:
        load_file(path)
    assert '\n' not in str(caught.value)


class Unpicklable:
    def __reduce__(self):
        raise RuntimeError('cannot be saved')


def test_a_failed_save_leaves_the_previous_file(tmp_path):
    path = tmp_path / 'a' / 'b.pth'
    save_file({'n': 1}, path)
    with pytest.raises(RuntimeError, match='cannot be saved'):
        save_file({'n': torch.zeros(9), 'x': Unpicklable()}, path)
    assert load_file(path) == {'n': 1}
    assert [p.name for p in path.parent.iterdir()] == ['b.pth']


def test_the_file_is_whole_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    path = tmp_path / 'x.pth'
    save_file({'n': 1}, path)
    order, fsync, replace = [], os.fsync, os.replace

    def watch_fsync(fd):
        order.append('folder' if stat.S_ISDIR(os.fstat(fd).st_mode) else 'file')
        fsync(fd)

    def watch_replace(source, target):
        order.append('rename')
        assert torch.load(source, weights_only=True) == {'n': 2}
        assert torch.load(target, weights_only=True) == {'n': 1}
        replace(source, target)

    monkeypatch.setattr(os, 'fsync', watch_fsync)
    monkeypatch.setattr(os, 'replace', watch_replace)
    save_file({'n': 2}, path)
    assert order == ['file', 'rename', 'folder']
    assert load_file(path) == {'n': 2}


def test_permissions_follow_the_umask(tmp_path):
    save_file({}, tmp_path / 'a.pth')
    (tmp_path / 'plain').touch()
    assert (tmp_path / 'a.pth').stat().st_mode == (tmp_path / 'plain').stat().st_mode


def test_text_and_json(tmp_path):
    write_text('größer\n', tmp_path / 't.txt')
    assert (tmp_path / 't.txt').read_bytes() == 'größer\n'.encode()
    write_json({'b': [1, None], 'ä': 0.5}, tmp_path / 'r.json')
    assert json.loads((tmp_path / 'r.json').read_text(encoding='utf-8')) == {'b': [1, None], 'ä': 0.5}
    with pytest.raises(TypeError, match='not JSON serializable'):
        write_json({'x': io.BytesIO()}, tmp_path / 'r.json')
    assert json.loads((tmp_path / 'r.json').read_text(encoding='utf-8'))['b'] == [1, None]


def test_a_copy_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    source, copy = tmp_path / 'student.pth', tmp_path / 'out' / 'student.pth'
    source.write_bytes(b'new')
    copy_file(source, copy)
    assert copy.read_bytes() == b'new'
    source.write_bytes(b'newer')
    monkeypatch.setattr('os.replace', lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        copy_file(source, copy)
    assert copy.read_bytes() == b'new' and os.listdir(copy.parent) == ['student.pth']


def test_a_compressed_archive_is_refused(tmp_path):
    save_file({'w': torch.zeros(1000)}, tmp_path / 'sound.pth')
    with zipfile.ZipFile(tmp_path / 'sound.pth') as old:
        entries = {name: old.read(name) for name in old.namelist()}
    for name, compression, extra in (('packed', zipfile.ZIP_DEFLATED, {}), ('same', zipfile.ZIP_STORED, {})):
        with zipfile.ZipFile(tmp_path / f'{name}.pth', 'w', compression) as new:
            for entry, data in (entries | extra).items():
                new.writestr(entry, data)
    assert load_file(tmp_path / 'same.pth')['w'].shape == (1000,)
    with pytest.raises(ValueError, match=r'packed.pth is not a readable checkpoint \(it is compressed, which no'):
        load_file(tmp_path / 'packed.pth')
    with zipfile.ZipFile(tmp_path / 'same.pth', 'a') as new, pytest.warns(UserWarning, match='Duplicate name'):
        new.writestr(next(iter(entries)), b'x')
    with pytest.raises(ValueError, match=r'\(parts of it lie over one another\)'):
        load_file(tmp_path / 'same.pth')


@pytest.mark.parametrize('form', [True, False])
def test_a_bytearray_is_not_made(form, tmp_path):
    torch.save({'x': bytearray(3)}, tmp_path / 'x.pth', _use_new_zipfile_serialization=form)
    with pytest.raises(ValueError, match=r'\(it holds a bytearray\)'):
        load_file(tmp_path / 'x.pth')


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / 'pipe.pth')
    (tmp_path / 'loop.pth').symlink_to(tmp_path / 'loop.pth')
    for name, said in dict(pipe='it is a pipe or a device', loop='Too many levels of symbolic links').items():
        for read in (load_file, read_json):
            with pytest.raises(ValueError, match=f'{name}.pth is not .*{said}'):
                read(tmp_path / f'{name}.pth')
    for name, said in {
        'x' * 5000: 'xxx…xxx.* .File name too long',
        'a\nb': 'a.b is not a readable .*it is a text file',
    }.items():
        (tmp_path / 'a\nb').write_text('x')
        with pytest.raises(ValueError, match=said) as caught:
            load_file(tmp_path / name)
        assert '\n' not in str(caught.value) and len(str(caught.value)) < 400


def test_json_of_strangers(tmp_path):
    path = tmp_path / 'x.json'
    write_json({'a': [1]}, path)
    assert read_json(path) == {'a': [1]}
    for text in ('{"a": ', '[' * 10**6):
        path.write_text(text)
        with pytest.raises(ValueError, match='x.json is not JSON: '):
            read_json(path)
    path.write_bytes(b'"\xff"')
    with pytest.raises(ValueError, match='x.json is not JSON: '):
        read_json(path)
    os.truncate(path, 1 << 30)
    with pytest.raises(ValueError, match='it has 1,073,741,824 bytes, a JSON file of at most 268,435,456 is expected'):
        read_json(path)
    with pytest.raises(FileNotFoundError, match='there is no file .*none.json'):
        read_json(tmp_path / 'none.json')


def test_files_that_cannot_be_written(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(IsADirectoryError, match='is a folder: name a file to write'):
        write_text('x', tmp_path)
    with pytest.raises(OSError, match='x.pth cannot be written: .*what should be its folder is a file'):
        save_file({}, tmp_path / 'file' / 'x.pth')


def test_no_bytearray_slips_past_in_an_archive_that_torch_and_zipfile_see_differently(tmp_path):
    torch.save({'x': bytearray(3)}, tmp_path / 'x.pth')
    with zipfile.ZipFile(tmp_path / 'x.pth') as old, zipfile.ZipFile(tmp_path / 'case.pth', 'w') as new:
        for name in old.namelist():
            new.writestr(name.replace('data.pkl', 'DATA.PKL'), old.read(name))
    torch.save({'x': bytearray(3)}, tmp_path / 'legacy.pth', _use_new_zipfile_serialization=False)
    save_file({'w': 1}, tmp_path / 'sound.pth')
    both = (tmp_path / 'legacy.pth').read_bytes() + (tmp_path / 'sound.pth').read_bytes()
    (tmp_path / 'both.pth').write_bytes(both)
    for name in ('case', 'both'):
        assert torch.load(tmp_path / f'{name}.pth') == {'x': bytearray(3)}
        with pytest.raises(ValueError, match=r'\(it holds a bytearray\)'):
            load_file(tmp_path / f'{name}.pth')


def test_an_archive_that_claims_further_disks(tmp_path):
    save_file({'w': torch.zeros(100)}, tmp_path / 'x.pth')
    data = bytearray((tmp_path / 'x.pth').read_bytes())
    data[data.rindex(b'PK\x06\x07') + 16] = 2  # of the end's locator: the number of disks
    (tmp_path / 'x.pth').write_bytes(data)
    with pytest.raises(ValueError, match=r'x.pth is not a readable checkpoint \(.*\)$') as caught:
        load_file(tmp_path / 'x.pth')
    assert '\n' not in str(caught.value)
