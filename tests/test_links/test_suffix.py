"""Forward passes that begin behind a module."""

import pytest
import torch
from torch import Tensor, nn

from mmrecast.links.prefix import Suffix, last_before


class Counted(nn.Module):
    """A convolution that knows how often it ran."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.runs = nn.Conv2d(channels, 4, 3, padding=1), 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        return self.conv(x)


class Net(nn.Module):
    """Three layers; ``skip`` adds the first one's output behind the third."""

    def __init__(self, skip: bool = False) -> None:
        super().__init__()
        self.stem, self.norm, self.middle, self.last = Counted(3), nn.BatchNorm2d(4), Counted(4), Counted(4)
        self.relu, self.skip = nn.ReLU(inplace=True), skip

    def forward(self, x: Tensor) -> Tensor:
        first = self.relu(self.norm(self.stem(x)))
        out = self.last(self.relu(self.middle(first)))
        return (out + first if self.skip else out).mean((2, 3))


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def test_what_is_before_is_not_run_and_the_rest_gives_the_same(images):
    network = Net().eval()
    suffix = Suffix(network, 'middle', images)
    assert set(suffix.skipped) == {'stem', 'norm', 'middle'}  # the shared ReLU runs again behind it
    middle = network.middle.conv(network.norm(network.stem.conv(images)).relu())
    runs = network.stem.runs, network.middle.runs, network.last.runs
    logits = suffix(network, lambda: network(torch.zeros(2, 3, 6, 6)), middle.clone())
    assert torch.equal(logits, network.last.conv(middle.relu()).mean((2, 3)))
    assert (network.stem.runs, network.middle.runs, network.last.runs) == (runs[0], runs[1], runs[2] + 1)


def test_other_batch_sizes_gradients_and_errors_leave_the_network_as_it_was(images):
    network = Net()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    random = torch.get_rng_state()
    suffix = Suffix(network, 'middle', images)
    assert network.training and torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    output = torch.randn(5, 4, 6, 6, requires_grad=True)
    suffix(network, lambda: network(torch.zeros(5, 3, 6, 6)), output.clone()).sum().backward()
    assert output.grad.abs().sum() > 0 and network.stem.conv.weight.grad is None

    def fails() -> Tensor:
        raise RuntimeError('no')

    with pytest.raises(RuntimeError, match='no'):
        suffix(network, fails, output)
    assert not any('forward' in module.__dict__ for module in network.modules())
    before = network.stem.runs
    network(images)
    assert network.stem.runs == before + 1


def test_a_network_that_reads_what_was_before_cannot_begin_there(images):
    with pytest.raises(ValueError, match="what is behind 'middle' reads what was before it"):
        Suffix(Net(skip=True), 'middle', images)
    with pytest.raises(ValueError, match="'relu' is not called exactly once"):
        Suffix(Net(), 'relu', images)
    with pytest.raises(KeyError, match="no module 'midle'"):
        Suffix(Net(), 'midle', images)


def test_the_last_module_before_some_layers(images):
    assert last_before(Net(), ['last'], images).path == 'middle'
    assert last_before(Net(), ['last', 'middle'], images).path == 'norm'
    with pytest.raises(ValueError, match="Net has no module before 'stem' behind which it could begin"):
        last_before(Net(), ['stem'], images)


def test_the_module_itself_runs_on_an_input_that_is_known(images):
    network = Net().eval()
    suffix = Suffix(network, 'middle', images, included=True)
    assert set(suffix.skipped) == {'stem', 'norm'}
    known = torch.randn(5, 4, 6, 6, generator=torch.Generator().manual_seed(1))
    runs = network.stem.runs, network.middle.runs
    logits = suffix(network, lambda: network(torch.zeros(5, 3, 6, 6)), known)
    assert torch.equal(logits, network.last.conv(network.middle.conv(known).relu()).mean((2, 3)))
    assert (network.stem.runs, network.middle.runs) == (runs[0], runs[1] + 1)
    assert not network.middle._forward_pre_hooks and 'forward' not in network.stem.__dict__


def test_a_module_whose_input_is_not_all_that_is_read_cannot_be_begun_at(images):
    with pytest.raises(ValueError, match="what is behind 'middle' reads what was before it"):
        Suffix(Net(skip=True), 'middle', images, included=True)
    with pytest.raises(
        ValueError, match="'relu' is not called exactly once, or takes no tensor: nothing can begin at it"
    ):
        Suffix(Net(), 'relu', images, included=True)
