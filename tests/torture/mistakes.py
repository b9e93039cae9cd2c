"""The catalogue of a user's mistakes through real command lines: each ends in one line that says what to do."""

import functools
import os
import re
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import torch
from command_mistakes import COMMAND_MISTAKES
from mistakes import MISTAKES
from torture.attack import Attack, Family
from torture.limits import in_time
from torture.places import Refused, checkpoint, config, sound, tool

OPTIONS = dict(resume='--resume', data_root='--data-root', launcher='--launcher', work_dir='--work-dir', amp='--amp')


@functools.cache
def prepared() -> Path:
    """Return the folder that the command lines name: what a finished run leaves, and files that are none."""
    folder = sound()
    texts = dict(
        broken='a = 1\nb = (\n', base="_base_ = './gone.py'\n", nothing='x = 1\n',
        imports="custom_imports = dict(imports=['no_such_module'])\n",
    )  # fmt: skip
    for name, text in texts.items():
        (folder / f'{name}.py').write_text(text)
    cfg = config(folder)
    cfg.model.recipe[0].source = 'backbone.layer1.*'
    cfg.dump(folder / 'other.py')
    cfg = config(folder)
    for key in ('test_dataloader', 'test_cfg', 'test_evaluator'):
        cfg.pop(key)
    cfg.dump(folder / 'untested.py')
    (folder / 'empty').mkdir()
    (folder / 'results' / 'a').mkdir(parents=True)
    (folder / 'results' / 'a' / 'result.json').write_text('{"method": ')
    return folder


def _command(folder: Path, name: str, words: list[str], said: str) -> None:
    files = prepared()
    words = [word.format(files=files, run=files / 'run', checkpoint=checkpoint()) for word in words]
    line = _told(name, *words)
    assert re.search(said, line), line


def _told(name: str, *words: object) -> str:
    try:
        with in_time(600):
            tool(name, *words)
    except Refused as error:
        line = str(error)
        assert len(line) < 600, line
        return line
    raise AssertionError('the command was done as if nothing were wrong with it')


@functools.cache
def _files() -> Path:
    from test_bad_input import fill  # registers what the catalogue names

    _files.holder = tempfile.TemporaryDirectory(prefix='torture_mistakes_')
    with redirect_stdout(StringIO()):
        return fill(Path(_files.holder.name))


def _config(folder: Path, changes: dict, said: str) -> None:
    from test_bad_input import changed

    cfg, arguments = changed(changes, _files())
    path = folder / 'config.py'
    cfg.dump(path)
    path.write_text(re.sub(r'\bnan\b', "float('nan')", path.read_text()))
    words: list[object] = []
    for key, value in (dict(work_dir=str(folder / 'work')) | arguments).items():
        words += [OPTIONS[key]] if value is True else [OPTIONS[key], value]
    kept = {k: v for k, v in os.environ.items() if k not in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')}
    before = torch.get_rng_state()
    with patch.dict(os.environ, kept | dict(XDG_CACHE_HOME=str(folder / 'cache')), clear=True):
        line = _told('train.py', path, *words).removeprefix('error: ').removesuffix(' (MMRECAST_DEBUG=1 shows where)')
    torch.set_rng_state(before)
    assert re.search(said, line), line
    assert not (folder / 'work').exists()


MADE = Family(
    'mistakes',
    'A mistake in a config or at a command line ends in one line that says what to do, before anything is written.',
    [
        *(
            Attack(f'at the command line of {name}', functools.partial(_command, name=name, words=words, said=said))
            for name, words, said in COMMAND_MISTAKES
        ),
        *(
            Attack('in a config', functools.partial(_config, changes=changes, said=said))
            for _, changes, _, said in MISTAKES
        ),
    ],
)
