"""Download: asked for, verified, and whole or not there."""

import dataclasses
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from mmrecast.datasets import CIFAR10, cifar


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args) -> None:
        pass


@pytest.fixture
def server(stand_in, tmp_path, monkeypatch):
    """Publish the stand-in on loopback, where CIFAR10 will look for it; yields the folder that is served."""
    published = tmp_path / 'published'
    stand_in.write_tar(published)
    with ThreadingHTTPServer(('127.0.0.1', 0), partial(_Quiet, directory=published)) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        url = f'http://127.0.0.1:{httpd.server_port}/cifar-10-python.tar.gz'
        monkeypatch.setattr(CIFAR10, 'official', dataclasses.replace(stand_in.archive, url=url))
        monkeypatch.setenv('no_proxy', '127.0.0.1')
        yield published
        httpd.shutdown()
        thread.join()


def test_download_then_read_again_without_it(server, stand_in, tmp_path):
    root = tmp_path / 'data' / 'cifar10'
    dataset = CIFAR10(root, 'train', download=True)
    np.testing.assert_array_equal(dataset.images.numpy(), stand_in.images['train'])
    assert [path.name for path in root.iterdir()] == ['cifar-10-python.tar.gz']
    (server / 'cifar-10-python.tar.gz').unlink()
    for download in (False, True):
        np.testing.assert_array_equal(CIFAR10(root, 'test', download=download).images, stand_in.images['test'])


def test_not_asked_for(server, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'download=True in the dataset config fetches http://127.0.0.1'):
        CIFAR10(tmp_path / 'data')
    assert not (tmp_path / 'data').exists()


def test_present_data_are_not_fetched(server, stand_in, tmp_path):
    (server / 'cifar-10-python.tar.gz').unlink()
    stand_in.write_tree(tmp_path / 'data')
    assert len(CIFAR10(tmp_path / 'data', 'test', download=True)) == 30


def test_a_half_missing_folder_is_completed_by_the_archive(server, stand_in, tmp_path):
    (stand_in.write_folder(tmp_path / 'data') / 'data_batch_1').unlink()
    assert len(CIFAR10(tmp_path / 'data', download=True)) == 150


@pytest.mark.parametrize('keep', [0, 5000, -1])
def test_a_short_or_wrong_answer_leaves_nothing(server, tmp_path, keep):
    path = server / 'cifar-10-python.tar.gz'
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r'came with md5 [0-9a-f]{32} \([\d,]+ bytes\), expected .*; it was not kept'):
        CIFAR10(tmp_path / 'data', download=True)
    assert not any((tmp_path / 'data').iterdir())


def test_the_server_has_no_such_file(server, tmp_path):
    (server / 'cifar-10-python.tar.gz').unlink()
    with pytest.raises(
        OSError, match=r'tar.gz could not be downloaded \(.*[nN]ot found.*\); or put the file at .*data'
    ):
        CIFAR10(tmp_path / 'data', download=True)
    assert not any((tmp_path / 'data').iterdir())


def test_other_ranks_read_what_the_first_one_fetched(server, stand_in, tmp_path, monkeypatch):
    monkeypatch.setattr(cifar.dist, 'is_main_process', lambda: False)
    monkeypatch.setattr(cifar.dist, 'barrier', lambda: stand_in.write_tar(tmp_path / 'shared'))
    (server / 'cifar-10-python.tar.gz').rename(server / 'kept')
    assert len(CIFAR10(tmp_path / 'shared', download=True)) == 150
    monkeypatch.setattr(cifar.dist, 'barrier', lambda: (server / 'kept').rename(server / 'cifar-10-python.tar.gz'))
    assert len(CIFAR10(tmp_path / 'own disk', download=True)) == 150


def test_no_server(stand_in, tmp_path, monkeypatch):
    archive = dataclasses.replace(stand_in.archive, url=f'file://{tmp_path}/none/cifar-10-python.tar.gz')
    monkeypatch.setattr(CIFAR10, 'official', archive)
    with pytest.raises(OSError, match=r'could not be downloaded'):
        CIFAR10(tmp_path / 'data', download=True)
    assert not any((tmp_path / 'data').iterdir())
