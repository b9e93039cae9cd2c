import json
import re
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / 'tools' / 'analysis_tools' / 'paper_tables.py'
TABLES = """
networks:
  resnet56b: {source: configs/distill/backprop/backprop_resnet56b_cifar10.py}
tables:
- name: Table 2
  title: on CIFAR
  columns: [C10+, Params, Mults]
  groups:
  - teacher: ResNet-56
    rows:
    - {method: Baseline, network: resnet56b, printed: ['7.02', 0.85M (1.0×), 125.75M (1.0×)]}
"""


@pytest.fixture
def show(call, tool, monkeypatch, tmp_path):
    """Run the tool in this process on the tables given: (exit status, output, error)."""
    monkeypatch.setattr(tool, 'TABLES', tmp_path / 'tables.yml')
    monkeypatch.setattr(tool, 'RESULTS', tmp_path)

    def run(*args, tables=TABLES):
        tool.TABLES.write_text(tables, encoding='utf-8')
        return call(*args)

    return run


def test_table_and_check(show):
    status, out, err = show('--check')
    assert status == 0
    line = next(line for line in out.split('\n') if 'Params' in line)
    assert line.split() == 'Table 2 ResNet-56 Baseline Params 0.85M (1.0×) 850,864 (1.000×) agrees'.split()
    assert err == '2 printed figures: 2 agrees\n'


def test_check_fails_where_a_figure_differs(show):
    wrong = TABLES.replace('125.75M', '125.74M')
    status, out, err = show('--check', tables=wrong)
    assert status == 1
    assert 'differs, +0.01 %' in out
    assert err == '2 printed figures: 1 agrees, 1 differs\n'
    assert show(tables=wrong)[0] == 0


def test_json(show, tmp_path):
    file = tmp_path / 'found.json.txt'
    assert show('--json', '--out', file)[:2] == (0, '')
    found = json.loads(file.read_text(encoding='utf-8'))
    (row,) = found['rows']
    assert row['printed'] == {'C10+': '7.02', 'Params': '0.85M (1.0×)', 'Mults': '125.75M (1.0×)'}
    assert [figure['value'] for figure in row['figures']] == [850_864, 125_747_200]
    assert found['networks'] == {'resnet56b': 'configs/distill/backprop/backprop_resnet56b_cifar10.py'}


@pytest.mark.parametrize(
    ('tables', 'message'),
    [
        (TABLES.replace('0.85M (1.0×)', 'much'), "'much' is no printed count like"),
        (
            TABLES.replace('resnet56b_cifar10.py', 'resnet56c_cifar10.py'),
            'there is no config file .*nearest: backprop_',
        ),
    ],
)
def test_mistakes_in_one_line(tables, message, show):
    status, _, err = show(tables=tables)
    assert status == 2
    assert err.startswith('error: ') and err.count('\n') == 1
    assert re.search(message, err)
