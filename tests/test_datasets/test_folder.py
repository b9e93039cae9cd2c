"""A tree of images: its labels, its errors, and its cache."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmrecast.datasets import CIFAR10, folder


@pytest.fixture
def tree(stand_in, tmp_path) -> Path:
    return stand_in.write_tree(tmp_path / 'tree')


@pytest.fixture
def decoded(monkeypatch) -> list[int]:
    """Record the number of files at each decoding."""
    calls, decode = [], folder._decode
    monkeypatch.setattr(folder, '_decode', lambda files, shape: calls.append(len(files)) or decode(files, shape))
    return calls


def test_decoded_once(tree, stand_in, cache, decoded):
    first, second = CIFAR10(tree), CIFAR10(str(tree) + '/')
    assert decoded == [150]
    assert first.images.equal(second.images) and first.labels.equal(second.labels)
    assert [path.suffix for path in cache.iterdir()] == ['.npy']
    assert sorted(path.name for path in tree.iterdir()) == ['test', 'train']


def test_the_splits_are_kept_apart(tree, cache, decoded):
    CIFAR10(tree, 'train'), CIFAR10(tree, 'test'), CIFAR10(tree, 'train'), CIFAR10(tree, 'test')
    assert decoded == [150, 30] and len(list(cache.iterdir())) == 2


def test_a_changed_file_is_seen_and_the_old_array_dropped(tree, cache, decoded):
    before = CIFAR10(tree, 'test')
    path = sorted((tree / 'test' / 'cat').iterdir())[0]
    Image.fromarray(np.full((32, 32, 3), 7, np.uint8)).save(path)
    after = CIFAR10(tree, 'test')
    changed = (before.images != after.images).flatten(1).any(1).nonzero().flatten().tolist()
    assert changed == [9] and after[9]['inputs'].unique().tolist() == [7]  # the first of class 3, three to a class
    assert decoded == [30, 30] and len(list(cache.iterdir())) == 1


@pytest.mark.parametrize('change', ['added', 'renamed', 'touched'])
def test_what_makes_the_cache_stale(tree, decoded, change):
    CIFAR10(tree, 'test')
    path = sorted((tree / 'test' / 'dog').iterdir())[-1]
    if change == 'added':
        shutil.copy(path, path.with_name('zzz.png'))
    elif change == 'renamed':
        path.rename(path.with_name('zzz.png'))
    else:
        os.utime(path, ns=(1, 1))
    assert len(CIFAR10(tree, 'test')) == (31 if change == 'added' else 30)
    assert len(decoded) == 2


@pytest.mark.parametrize('content', [b'', b'nonsense', None], ids=['empty', 'nonsense', 'truncated'])
def test_a_damaged_cache_is_written_anew(tree, cache, decoded, content):
    expected = CIFAR10(tree, 'test').images
    (path,) = cache.iterdir()
    path.write_bytes(path.read_bytes()[:-9] if content is None else content)
    assert CIFAR10(tree, 'test').images.equal(expected)
    assert CIFAR10(tree, 'test').images.equal(expected)
    assert decoded == [30, 30]


def test_an_interrupted_write_leaves_nothing(tree, cache, decoded, monkeypatch):
    def half(file, images):
        file.write(b'half')
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(folder.np, 'save', half)
        with pytest.raises(KeyboardInterrupt):
            CIFAR10(tree, 'test')
    assert list(cache.iterdir()) == []
    CIFAR10(tree, 'test')
    assert len(list(cache.iterdir())) == 1


def test_without_a_writable_cache_it_still_reads(tree, cache, decoded):
    cache.parent.mkdir(exist_ok=True)
    cache.write_text('a file where the folder would be')
    assert len(CIFAR10(tree, 'test')) == len(CIFAR10(tree, 'test')) == 30
    assert decoded == [30, 30]


def test_data_inside_the_cache_folder(stand_in, cache, decoded):
    for root in (cache, cache.parent / 'mmrecast'):
        stand_in.write_tree(root)
        assert CIFAR10(root, 'test').images.equal(CIFAR10(root, 'test').images)
    assert decoded == [30, 30]


def test_suffixes_and_what_is_passed_over(tree, decoded):
    folder_ = tree / 'test' / 'frog'
    first = sorted(folder_.iterdir())[0]
    first.rename(first.with_suffix('.PNG'))
    (folder_ / 'readme.txt').write_text('no image')
    (tree / 'test' / '.hidden').mkdir()
    assert len(CIFAR10(tree, 'test')) == 30


def test_grey_images_become_colour(tree, stand_in):
    path = sorted((tree / 'test' / 'ship').iterdir())[0]
    Image.fromarray(np.arange(1024, dtype=np.uint8).reshape(32, 32)).save(path)
    image = CIFAR10(tree, 'test')[24]['inputs']  # the first of class 8, three to a class
    assert image[0].flatten().tolist() == (np.arange(1024) % 256).tolist()
    assert image[0].equal(image[1]) and image[0].equal(image[2])


def test_a_folder_that_is_no_class(tree):
    (tree / 'train' / 'truk').mkdir()
    with pytest.raises(ValueError, match=r'train/truk is not one of the 10 classes \(nearest: truck'):
        CIFAR10(tree)


def test_missing_and_empty_classes(tree):
    shutil.rmtree(tree / 'train' / 'cat')
    with pytest.raises(
        FileNotFoundError, match=r'train has no images \(.png, .jpg\) of class cat; it has 9 of 10 classes'
    ):
        CIFAR10(tree)
    for path in (tree / 'train' / 'dog').iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r'of class cat, dog; it has 8 of 10'):
        CIFAR10(tree)
    for path in (tree / 'train').iterdir():
        shutil.rmtree(path)
    with pytest.raises(FileNotFoundError, match=r'of class airplane, automobile, bird and 7 more; it has 0 of 10'):
        CIFAR10(tree)


@pytest.mark.parametrize('content', [b'', b'no image', None], ids=['empty', 'text', 'truncated'])
def test_an_unreadable_image_is_named(tree, cache, content):
    path = sorted((tree / 'test' / 'deer').iterdir())[1]
    path.write_bytes(path.read_bytes()[:1000] if content is None else content)
    with pytest.raises(ValueError, match=rf'deer/{path.name} is not a readable image \(') as caught:
        CIFAR10(tree, 'test')
    assert '\n' not in str(caught.value)
    assert not cache.exists()


def test_an_image_of_another_size_is_named(tree):
    path = sorted((tree / 'test' / 'deer').iterdir())[1]
    Image.fromarray(np.zeros((30, 28, 3), np.uint8)).save(path)
    with pytest.raises(ValueError, match=rf'deer/{path.name} is 30x28 pixels, expected 32x32'):
        CIFAR10(tree, 'test')


def test_a_pipe_is_not_waited_for(tree):
    os.mkfifo(tree / 'test' / 'deer' / 'pipe.png')
    with pytest.raises(ValueError, match='pipe.png is not a readable image .it is no file, .*: replace or remove it'):
        CIFAR10(tree, 'test')
