import pytest
import torch
from torch import nn

from mmrecast.models import TeacherEnsemble, build_network, check_constructor, untrained


class Constant(nn.Module):
    def __init__(self, *logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, x):
        return self.logits.expand(len(x), -1)


def test_the_weighted_mean_of_logits():
    teachers = dict(a=dict(network=Constant(1.0, 2.0), weight=3), b=dict(network=Constant(5.0, -2.0)))
    ensemble = TeacherEnsemble(teachers)
    torch.testing.assert_close(ensemble(torch.zeros(4, 3)), torch.tensor([2.0, 1.0]).expand(4, 2))
    assert ensemble.get_submodule('b').logits.tolist() == [5.0, -2.0]


def test_weights_of_files(tmp_path):
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / 'a.pth')
    ensemble = TeacherEnsemble(dict(a=dict(network=nn.Linear(2, 2), ckpt=str(tmp_path / 'a.pth'))))
    assert torch.equal(ensemble.a.weight, torch.load(tmp_path / 'a.pth')['weight'])
    with pytest.raises(FileNotFoundError, match='no checkpoint at'):
        TeacherEnsemble(dict(a=dict(network=nn.Linear(2, 2), ckpt='nowhere.pth')))


def test_a_constructor_names_no_file():
    config = dict(type='TeacherEnsemble', teachers=dict(a=dict(network=dict(type='CifarVGG', depth=8), ckpt='x.pth')))
    assert 'ckpt' not in untrained(config)['teachers']['a']
    with pytest.raises(ValueError, match='no part of a network that may be built from a file'):
        check_constructor(untrained(config))  # its networks could be the names of files


@pytest.mark.parametrize(
    ('teachers', 'message'),
    [
        ({}, 'teachers is dict.name=dict.network='),
        (dict(a=dict(ckpt='x')), "teacher 'a' needs a network"),
        (dict(a=dict(network=Constant(1.0), weigth=1)), "'a' has no key 'weigth' .nearest: weight"),
        (dict(a=dict(network=Constant(1.0), weight=0)), "the weight of 'a' must be positive, got 0"),
    ],
)
def test_mistakes(teachers, message):
    with pytest.raises(ValueError, match=message):
        TeacherEnsemble(teachers)


def test_unlike_classes():
    ensemble = TeacherEnsemble(dict(a=dict(network=Constant(1.0)), b=dict(network=Constant(1.0, 2.0))))
    with pytest.raises(ValueError, match=r'different classes \(a: 1, b: 2\)'):
        ensemble(torch.zeros(1, 1))
    assert build_network(ensemble) is ensemble
