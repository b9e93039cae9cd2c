"""The code shown in docs/add_a_method.md is run as it stands there; what the README lists is there."""

import importlib
import json
import math
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from pages import ROOT, files_of, rows_below, write

from mmrecast.apis import load_student, train
from mmrecast.links.parts import OTHER, OWN
from mmrecast.registry import MODELS

OWN_METHOD = (ROOT / 'docs/add_a_method.md').read_text()
PLACEHOLDER = '/home/you/mmrecast/'


@pytest.fixture(scope='module')
def method(registered, tmp_path_factory) -> Iterator[Path]:
    """Return a folder with the files of docs/add_a_method.md."""
    folder = tmp_path_factory.mktemp('method')
    with pytest.MonkeyPatch.context() as patch:
        write(OWN_METHOD, folder, patch)
        yield folder
        sys.modules.pop('my_method', None)


@pytest.fixture(scope='module')
def trained(method) -> dict:
    """Return the result of the page's config after four iterations, with an untrained teacher."""
    cfg = Config.fromfile(method / 'my_config.py')
    cfg.merge_from_dict(
        {'train_cfg.budget': 4, 'model.teacher_ckpt': None, 'default_hooks.logger.interval': 1}
    )  # fmt: skip
    return train(cfg, work_dir=str(method / 'run'))


def test_a_method_is_one_file_of_under_40_lines() -> None:
    assert len(files_of(OWN_METHOD)['my_method.py'].splitlines()) < 40


def test_own_method_trains_and_its_term_is_logged(method, trained) -> None:
    (log,) = method.glob('run/*/vis_data/scalars.json')
    steps = [json.loads(line) for line in log.read_text().splitlines()]
    steps = [step for step in steps if 'loss_srd' in step]
    assert len(steps) == 4 and trained['method'] == 'srd'
    for step in steps:
        terms = [step[f'loss_{name}'] for name in ('task', 'srd', 'kd')]
        assert all(map(math.isfinite, terms)) and sum(terms) == pytest.approx(step['loss'], rel=1e-4)
    assert steps[-1]['loss_srd'] < steps[0]['loss_srd']
    assert type(load_student(method / 'run/student.pth')).__name__ == 'ImageClassifier'


def test_last_line_is_of_the_form_shown(method, trained) -> None:
    shown = next(line for line in OWN_METHOD.splitlines() if line.startswith('top-1'))
    form = re.sub(r'\d+', r'\\d+', re.escape(shown.partition(';')[0]))
    (log,) = method.glob('run/*/*.log')
    last = log.read_text().splitlines()[-1]
    assert re.search(form + '; .*/run/student.pth$', last), last
    assert f'{PLACEHOLDER}work_dirs/my_config/student.pth' in shown


def test_own_loss_is_the_formula(method) -> None:
    """In loops, float64: over the batch each column has mean 0 and (biased) variance 1, but for BN's 1e-5."""
    loss = importlib.import_module('my_method').SRDLoss(exponent=4.0, loss_weight=2.0)
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(5, 3)), 3 * rng.normal(size=(5, 3)) + 1
    total = 0.0
    for column in range(3):
        mean, std = {}, {}
        for name, side in (('s', s), ('t', t)):
            mean[name] = sum(side[row, column] for row in range(5)) / 5
            std[name] = math.sqrt(sum((side[row, column] - mean[name]) ** 2 for row in range(5)) / 5 + 1e-5)
        for row in range(5):
            gap = (s[row, column] - mean['s']) / std['s'] - (t[row, column] - mean['t']) / std['t']
            total += abs(gap) ** 4
    assert loss(torch.tensor(s), torch.tensor(t)).item() == pytest.approx(2 * math.log(total), rel=1e-12)


def test_what_the_page_says_is_inferred() -> None:
    named = [name for row in rows_below(OWN_METHOD, 'argument') for name in re.findall('`(\\w+)`', row[0])]
    assert sorted(named) == sorted([*OWN, *OTHER, 'student_channels', 'teacher_channels', 'num_classes'])


@pytest.mark.parametrize(
    ('type_', 'method_'),
    [('LinearEmbed', 'infer'), ('OFDTeacherConnector', 'bind'), ('Paraphraser', 'reconstruct'),
     ('CRDLoss', 'check_dataset')],
)  # fmt: skip
def test_examples_of_the_page_have_what_they_are_examples_of(type_, method_) -> None:
    assert f'`{type_}`' in OWN_METHOD and callable(getattr(MODELS.get(type_), method_))


def test_own_method_as_one_of_the_zoo(method) -> None:
    """What the page says to move makes the leaf shown the same config."""
    leaf = re.search(r"```python\n(_base_ = \['\.\./_base_/methods/srd.*?)```", OWN_METHOD, re.S)[1]
    own = (method / 'my_config.py').read_text()
    folder = method / 'configs/distill'
    shutil.copytree(ROOT / 'configs/distill/_base_', folder / '_base_')
    (folder / '_base_/methods/srd.py').write_text(re.sub(r'(?m)^_base_ = .*\n|^ +\*\*_base_\.networks,\n', '', own))
    path = folder / 'srd/srd_resnet14_resnet8_digits.py'
    path.parent.mkdir()
    path.write_text(leaf)
    mine, theirs = (Config.fromfile(file).to_dict() for file in (method / 'my_config.py', path))
    assert mine == theirs and mine['model']['links'][0]['loss']['type'] == 'SRDLoss'


# ---- links between pages, and the README ---------------------------------------------------------------------------


def test_links_of_the_guides_lead_somewhere() -> None:
    for name in ('add_a_method', 'adjoined', 'distilling', 'extending'):
        page = ROOT / f'docs/{name}.md'
        for target, anchor in re.findall(r'\]\((?!http)([^)#]*)(#[^)]*)?\)', page.read_text()):
            file = (page.parent / target) if target else page
            assert file.exists(), f'{page.name}: {target}'
            headings = [
                re.sub(r'[^\w -]', '', h).lower().replace(' ', '-')
                for h in re.findall('(?m)^#+ (.*)', file.read_text())
            ]
            assert not anchor or anchor[1:] in headings, f'{page.name}: {target}{anchor}'


def test_the_readme_lists_every_method() -> None:
    zoo = (ROOT / 'README.md').read_text().partition('## The zoo')[2].partition('\n## ')[0]
    linked = re.findall(r'\(configs/distill/(\w+)/README\.md\)', zoo)
    assert sorted(linked) == sorted(path.name for path in (ROOT / 'configs/distill').glob('[!_]*'))
    assert all((ROOT / f'configs/distill/{name}/README.md').is_file() for name in linked)
    pair, methods = re.search(r'--pair (\S+) --methods ([\w ]+) --', zoo).groups()
    for method in methods.split():
        assert (ROOT / f'configs/distill/{method}/{method}_{pair}.py').is_file()
    assert (ROOT / re.search(r'tools/train.py (\S+)', zoo)[1]).is_file()
