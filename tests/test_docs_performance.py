"""What docs/performance.md shows can be run, and its figures lie where it says."""

import re
from pathlib import Path

import pytest
from mmengine.config import Config

from mmrecast.apis.config_check import check_config
from mmrecast.stages import Stage

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / 'docs/performance.md').read_text(encoding='utf-8')
CONFIGS = [code for code in re.findall(r'```python\n(.*?)```', PAGE, re.S) if code.startswith('_base_')]


@pytest.mark.parametrize('code', CONFIGS, ids=['fast', 'parallel'])
def test_configs_are_complete(registered, tmp_path, code):
    file = tmp_path / 'shown.py'
    file.write_text(code.replace("'configs/", f"'{ROOT}/configs/"))
    cfg = Config.fromfile(file)
    check_config(cfg)
    stages = [Stage.from_config(stage) for stage in cfg.train_cfg.stages]
    assert stages[0].kind == 'recast' and stages[-1].kind == 'finetune'
    assert len(cfg.model.hints.blocks) == 3 if 'hints' in cfg.model else stages[0].parallel


def test_commands_and_results_are_there():
    commands = re.findall(r'^(?:\w+=\S+ )*(?:python|bash) (\S+)', PAGE, re.M)
    assert commands and [path for path in commands if not (ROOT / path).is_file()] == []
    shown = re.findall(r'results/[\w./-]+\.(?:json|svg)', re.sub(r'^.*--out.*$', '', PAGE, flags=re.M))
    assert [path for path in shown if not (ROOT / 'docs' / path).is_file()] == []
