import csv
import json
import re

import pytest

from mmrecast.analysis.comparison import Comparison
from mmrecast.analysis.comparison_files import check_folder, comparison_data, comparison_markdown, write_comparison

pytest.importorskip('matplotlib')


@pytest.fixture
def comparison(make_result, measures):
    return Comparison([make_result(), make_result('kd', seed=3, top1=85.0)], measures, notes=('a\nnote',))


def test_four_files_with_the_same_numbers(comparison, tmp_path):
    files = write_comparison(comparison, tmp_path / 'new' / 'report', 'A title', 'python x')
    assert [f.name for f in files] == ['comparison.md', 'comparison.csv', 'comparison.json', 'index.html']
    assert sorted(p.name for p in files[0].parent.iterdir()) == sorted(f.name for f in files)
    markdown, table, data, page = (f.read_text(encoding='utf-8') for f in files)
    lines = json.loads(data)['lines']
    assert [line['error']['mean'] for line in lines] == [10.0, 12.0, 15.0]
    assert [float(line['error_mean']) for line in csv.DictReader(table.splitlines())] == [10.0, 12.0, 15.0]
    for text in (markdown, page):
        assert all(said in text for said in ('A title', '12.00', '15.00', '+5.00', '1.90x', 'python x'))


def test_markdown_is_a_table_and_lists(comparison):
    lines = comparison_markdown(comparison, 'A\ntitle', 'python x').splitlines()
    assert lines[0] == '# A title' and lines[2].startswith('| method |') and len(lines[2:7]) == 5
    assert all(not line or re.match(r'[|#-]', line) for line in lines)
    assert '- command: python x' in lines and '- a note' in lines


def test_data_is_plain_and_complete(comparison):
    data = json.loads(json.dumps(comparison_data(comparison, 'A', None)))
    assert data['data'] == dict(dataset='CIFAR10', classes=10, val_images=1000, input_shape=[3, 32, 32])
    assert [(run['line'], run['seed'], run['top1']) for run in data['runs']] == [
        ('recasting', 0, 88.0),
        ('kd', 3, 85.0),
    ]
    assert data['latency'] == {'2': dict(device='cpu', threads=1, repeats=7, dtype='float32')}
    assert data['lines'][1]['latency']['2']['speed_up'] == 1.9
    assert 'a\nnote' in data['notes']


def test_a_file_in_the_way(tmp_path):
    (tmp_path / 'file').touch()
    for out in (tmp_path / 'file', tmp_path / 'file' / 'report'):
        with pytest.raises(ValueError, match=r'is written to a folder, but .*/file is a file: choose another --out$'):
            check_folder(out)
    assert check_folder(tmp_path / 'new') == tmp_path / 'new' and not (tmp_path / 'new').exists()
