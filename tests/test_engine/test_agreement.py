"""What processes compare before they begin."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from torch.utils.data import DataLoader, Dataset, IterableDataset

from mmrecast.datasets import Digits
from mmrecast.engine.agreement import before_building, before_training, check_agreement, of_checkpoint


def compared(*facts: dict) -> None:
    check_agreement(lambda own: list(facts), facts[0])


def test_the_first_difference_names_the_process_and_what_it_is():
    compared(dict(a=1), dict(a=1))
    with pytest.raises(ValueError, match='but rank 2 has another torch than rank 0: .2.4., rank 0 has .2.13.$'):
        compared(dict(torch='2.13'), dict(torch='2.13'), dict(torch='2.4'))
    with pytest.raises(ValueError, match="rank 1 has another b than rank 0: 3, rank 0 has 'not given'"):
        compared(dict(a=1), dict(a=1, b=3))


def test_the_config_counts_but_for_places():
    def facts(**changes):
        values = dict(model=dict(links=[dict(loss=dict(tau=4.0))]), work_dir='a', load_from='x', data_root='c')
        return before_building(Config(values | changes))

    assert facts() == facts(work_dir='b', load_from='y', data_root='d', experiment_name='e')
    with pytest.raises(ValueError, match='config entry model.links.0.loss.tau than rank 0: 2.0, rank 0 has 4.0'):
        compared(facts(), facts(model=dict(links=[dict(loss=dict(tau=2.0))])))
    with pytest.raises(ValueError, match=r"another config entry stages than rank 0: '\[\]', rank 0 has 'not given'"):
        compared(facts(), facts(stages=[]))


def test_own_modules_count(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'my_module.py').write_text('a = 1')
    cfg = Config(dict(custom_imports=dict(imports=['my_module'])))
    one = before_building(cfg)
    (tmp_path / 'my_module.py').write_text('a = 2')
    with pytest.raises(ValueError, match='another code of my_module'):
        compared(one, before_building(cfg))


class Noise(Dataset):
    """Items of a random generator: Python's, NumPy's, torch's, or one that nobody seeds."""

    def __init__(self, kind: str, pixel: float = 0.0) -> None:
        self.kind, self.pixel, self.own = kind, pixel, np.random.default_rng()

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> dict:
        draw = dict(python=random.random, numpy=np.random.rand, torch=lambda: float(torch.rand(1)), own=self.own.random)
        return dict(inputs=torch.full((1, 2, 2), self.pixel + draw[self.kind]()), img_path=str(id(self)), label=index)


def content(dataset: Dataset) -> object:
    facts = before_training({}, dict(training=SimpleNamespace(dataloader=DataLoader(dataset)), test=None))
    return facts['content of the training data']


@pytest.mark.parametrize('kind', ['python', 'numpy', 'torch'])
def test_images_that_are_augmented_are_compared(kind):
    """With the same seed; and reading them leaves the random state as it was."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one = content(Noise(kind))
    assert torch.equal(torch.rand(3), expected)
    assert one is not None and one == content(Noise(kind)) != content(Noise(kind, pixel=0.5))


def test_images_that_come_out_otherwise_every_time_are_not():
    assert content(Noise('own')) is None


def test_every_image_in_memory_counts():
    one, other = Digits(num_samples=200), Digits(num_samples=200)
    assert content(one) == content(other)
    other.images[101, 0, 0, 0] ^= 1
    assert content(one) != content(other)


def test_fingerprint_and_checkpoint():
    checkpoint = dict(staged=dict(iter=3, stage=1))
    assert before_training(dict(data=dict(images=96)), {}) == {'data.images': 96}
    one, other = (
        of_checkpoint(checkpoint | dict(state_dict=dict(a=value))) for value in (torch.zeros(2), torch.ones(2))
    )
    assert one['checkpoint'] == 'iteration 3, 1 stages done'
    with pytest.raises(ValueError, match='another weights in the checkpoint'):
        compared(one, other)


def test_data_that_may_not_begin_twice_are_not_read():
    class Stream(IterableDataset):
        def __iter__(self):
            raise AssertionError

    facts = before_training({}, dict(validation=SimpleNamespace(dataloader=DataLoader(Stream()))))
    assert facts['type of the validation data'] == 'Stream'
