"""What docs/adjoined.md shows is run as it stands there, the longer trainings for a few iterations."""

import ast
import inspect
import json
import re
import runpy
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from pages import ROOT, files_of, rows_below, write

from mmrecast.algorithms.width_cost import KINDS
from mmrecast.apis import load_student
from mmrecast.apis.config_check import check_config
from mmrecast.registry import MODELS
from mmrecast.utils.checkpoint import load_file

GUIDE = (ROOT / 'docs/adjoined.md').read_text()
COMMANDS = [line for block in re.findall(r'```bash\n(.*?)```', GUIDE, re.S) for line in block.splitlines()]
SHORTER = ('my_start', 'my_second', 'backprop_', 'recasting_', 'my_latency')  # runs that nothing shown depends on


@pytest.fixture(scope='module')
def guide(registered, quick, tmp_path_factory) -> Iterator[Path]:
    """Return a folder with the files of the page, in which tools and configs are those of the checkout."""
    folder = tmp_path_factory.mktemp('adjoined')
    for name in ('configs', 'tools'):
        (folder / name).symlink_to(ROOT / name)
    with pytest.MonkeyPatch.context() as patch:
        write(GUIDE, folder, patch)
        yield folder
        sys.modules.pop('my_network', None)


def run(command: str, patch: pytest.MonkeyPatch) -> None:
    """Run a command line of the page in this process."""
    words = shlex.split(command, comments=True)
    if words[0] == 'export':  # the folder is on the path already
        assert words == ['export', 'PYTHONPATH=.']
        return
    assert words.pop(0) == 'python'
    if words[0] == 'tools/train.py':
        quiet = ['log_level="WARNING"', *(['train_cfg.budget=12'] if Path(words[1]).name.startswith(SHORTER) else [])]
        words += ['--cfg-options', *quiet]
    patch.setattr(sys, 'argv', words)
    try:
        runpy.run_path(words[0], run_name='__main__')
    except SystemExit as end:
        assert not end.code, command


@pytest.fixture(scope='module')
def done(guide) -> Path:
    """Run every command of the page, one after the other."""
    with pytest.MonkeyPatch.context() as patch:
        for command in COMMANDS:
            run(command, patch)
    return guide


def read(guide: Path, name: str) -> Config:
    cfg = Config.fromfile(guide / f'{name}.py')
    check_config(cfg)
    return cfg


def built(cfg: Config, **options) -> torch.nn.Module:
    return MODELS.build(dict(cfg.model, **options, data_preprocessor=cfg.data_preprocessor))


def code_with(text: str) -> str:
    """Return the code block of the page that holds ``text``."""
    return next(code for code in re.findall(r'```python\n(.*?)```', GUIDE, re.S) if text in code)


def printed(function: Callable, capsys: pytest.CaptureFixture) -> list[str]:
    capsys.readouterr()
    function()
    return [line.rstrip() for line in capsys.readouterr().out.splitlines() if line.strip()]


def test_commands_leave_what_the_guide_says(done) -> None:
    """In the order of the page; the next tests look into it."""
    trained = [shlex.split(command)[2] for command in COMMANDS if 'tools/train.py' in command]
    for config in trained:
        assert (done / 'work_dirs' / Path(config).stem / 'student.pth').is_file(), config
    shown = {f'{path.stem}.py' for path in map(Path, trained)}
    assert set(files_of(GUIDE)) - shown == {'my_network.py', 'my_data.py', 'my_alphas.py'}
    assert (done / 'widths.png').stat().st_size > 0 and (done / 'report/index.html').is_file()


def test_which_layers_narrow_is_as_shown(guide, capsys, monkeypatch) -> None:
    shown = re.search(r'`(python tools/list_widths.py [\w.]+)` prints\n\n```text\n(.*?)```', GUIDE, re.S)
    lines = printed(lambda: run(shown[1], monkeypatch), capsys)
    assert lines == [line.rstrip() for line in shown[2].splitlines() if line.strip()]


def test_patterns_choose_groups_and_divisors(guide) -> None:
    """The names in the patterns are a block in the middle of a group and a layer that the rule narrows, too."""
    small = built(read(guide, 'my_alphas')).student.extract()
    widths = [small.get_submodule(f'{name}.0').out_channels for name in ('stem', 'down', 'block', 'depthwise', 'wide')]
    assert widths == [16, 32, 32, 32, 16]


@pytest.mark.parametrize(('option', 'said'), rows_below(GUIDE, 'option'))
def test_mistakes_say_what_the_guide_shows(guide, option, said) -> None:
    name, value = re.fullmatch(r'`(\w+)=(.*)`', option).groups()
    with pytest.raises(ValueError) as caught:
        built(read(guide, 'my_adjoined'), **{name: ast.literal_eval(value)})
    assert str(caught.value).startswith(said)


def test_both_networks_are_taken_away_as_shown(done) -> None:
    found: dict = {}
    exec(code_with('small = load_student'), found)
    small, full = found['small'], found['full']
    assert type(small) is type(full) is found['my_network'].MyNet
    assert [(net.down[0].out_channels, net.wide[0].out_channels) for net in (small, full)] == [(16, 32), (64, 128)]
    image = torch.rand(2, 1, 8, 8)
    for network, file in ((small, 'small.pth'), (full, 'full.pth')):  # exported from the checkpoint
        assert torch.equal(load_student(done / file)(image), network(image))


def test_a_network_begins_with_the_weights_of_its_file(done) -> None:
    """The full one with all of them, the narrow one with the first filters."""
    full = load_file(done / 'work_dirs/my_adjoined/full/student.pth')['weights']
    pair = built(read(done, 'my_start')).student
    assert all(torch.equal(value, full[name]) for name, value in pair.full.state_dict().items())
    small = pair.extract().state_dict()
    assert torch.equal(small['block.0.weight'], full['block.0.weight'][:16, :16])
    assert torch.equal(small['block.1.running_mean'], full['block.1.running_mean'][:16])


def test_a_recast_student_becomes_two_networks(done) -> None:
    full, small = (load_student(done / f'work_dirs/my_second/{folder}student.pth') for folder in ('full/', ''))
    recast = load_file(done / 'work_dirs/recasting_resnet14_resnet8_digits/student.pth')['weights']
    assert {name: value.shape for name, value in full.state_dict().items()} == {n: v.shape for n, v in recast.items()}
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in full.parameters())


def test_the_search_is_read_as_shown(done, capsys) -> None:
    lines = printed(lambda: exec(code_with('widths.json')), capsys)
    stage, epoch, tau, gamma = lines[0].split()
    assert (stage, epoch, gamma) == ('0', '6', '1e-06')  # 60 iterations: five epochs of 11 and a part
    said = re.search(r'τ falls from (\d+) to (\d\.\d+)', GUIDE)
    assert float(said[1]) == read(done, 'my_search').model.tau
    assert float(tau) == pytest.approx(15 * 0.93**59, rel=1e-6) and round(float(tau), 2) == float(said[2])
    assert [line.split()[0] for line in lines[1:]] == ['down.0', 'wide.0']


def test_a_search_by_latency_costs_what_was_measured(done) -> None:
    """The cost of the full network is the sum over its layers that the tool printed."""
    algorithm = built(read(done, 'my_latency'))
    whole = json.loads((done / 'table.json').read_text())['whole'][0]
    assert whole['divisor'] == 1
    assert algorithm.cost.exact({}) == pytest.approx(whole['layers_ms'], rel=1e-6)


def test_costs_of_the_guide_exist(guide) -> None:
    costs = [
        ast.parse(row[0].strip('`'), mode='eval').body.keywords[0].value.value for row in rows_below(GUIDE, '`cost`')
    ]
    assert costs == list(KINDS)


@pytest.mark.parametrize(
    'option', ['kernel_mask', 'shared_prefix', 'warmup', 'kl_weight', 'exclude', 'rule', 'checkpoint']
)
def test_options_that_the_guide_names_exist(option) -> None:
    assert f'`{option}' in GUIDE or f'({option}' in GUIDE
    assert option in inspect.signature(MODELS.get('AdjoinedNetwork').__init__).parameters
