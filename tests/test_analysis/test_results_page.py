"""What docs/results.md says of made-up raw results."""

import json

import pytest

from mmrecast.analysis.complexity import Complexity
from mmrecast.analysis.paper import Network, Paper, Row, Table
from mmrecast.analysis.paper_counts import Measured
from mmrecast.analysis.results_page import markdown_table, results_page

LOSSLESS, JPEG = 'CIFAR-10: the lossless images.', 'CIFAR-10 (JPEG): re-encoded images.'


@pytest.fixture
def paper():
    """Two tables: a teacher and its student on CIFAR, and one of each on ILSVRC2012."""
    networks = dict(big=Network('configs/big.py'), small=Network('configs/small.py'), tv=Network('torchvision:net'))
    cifar = [
        Row('Table 2', 'Big', 'Baseline', 'big', {'C10+': '7.00', 'Params': '1.00M (1.0×)'}, 'big'),
        Row('Table 2', 'Big', 'Recasting', 'small', {'C10+': '8.00', 'Params': '0.50M (2.0×)'}, 'big', 'Conv'),
    ]
    times = ({'Time/image': '6.00ms', 'Time/batch': '90.00ms'}, {'Time/image': '2.00ms', 'Time/batch': '60.00ms'})
    errors = {'Top1': '20.00', 'Top5': '5.00'}
    imagenet = [
        Row('Table 4', 'Net', 'Baseline', 'tv', errors | times[0], 'tv'),
        Row('Table 4', 'Net', 'Recasting', 'small', errors | times[1], 'tv', 'C'),
    ]
    tables = (Table('Table 2', 'on CIFAR', tuple(cifar), 'A remark.'), Table('Table 4', 'on ILSVRC', tuple(imagenet)))
    return Paper(networks, tables)


@pytest.fixture
def page(paper, tmp_path):
    """Return a function that writes the page of files given by their names, without ``.json``."""
    sizes = dict(big=1_000_000, small=500_000, tv=1)
    measured = {name: Measured(Complexity(size, 0, 0, (), 'cifar')) for name, size in sizes.items()}

    def write(**files):
        for name, content in files.items():
            text = content if isinstance(content, str) else json.dumps(content)
            (tmp_path / f'{name}.json').write_text(text, encoding='utf-8')
        return results_page(paper, measured, tmp_path)

    return write


def line_of(text, *starts):
    """Return the cells of the first line of a table that begins with these."""
    lines = [line.strip('| ').split(' | ') for line in text.split('\n') if line.startswith('|')]
    return next(line for line in lines if line[: len(starts)] == list(starts))


def run(make_result, leaf, **fields):
    return make_result(config=f'configs/distill/x/{leaf}.py', command=f'python tools/train.py {leaf}', **fields)


def test_counts_and_commands_without_results(page):
    text = page()
    assert line_of(text, 'Table 2', 'Big → Conv')[2:] == [
        'Recasting', 'Params', '0.50M (2.0×)', '500,000 (2.000×)', '', 'agrees',
    ]  # fmt: skip
    assert ': 2 agrees.' in text and 'A remark.' in text
    command = '`python tools/train.py configs/distill/recasting/recasting_small_cifar10.py --data-root DIR`'
    assert line_of(text, 'Big', 'Recasting (Conv)') == [
        'Big', 'Recasting (Conv)', 'CIFAR-10', '8.00', '–', 'not run', command,
    ]  # fmt: skip
    assert line_of(text, 'Net', 'Baseline')[3:] == ['20.00 / 5.00', '–', '–', 'torchvision’s own weights']
    assert line_of(text, 'Net → C') == ['Net → C', '3.00x', '1.50x', 'not run']
    assert 'benchmark_latency.py configs/distill/recasting/recasting_small_imagenet.py --json' in text


def test_trainings_on_other_data_stay_apart_from_the_papers(page, make_result):
    leaf = 'recasting_small_cifar10'
    runs = {'recasting': run(make_result, leaf, top1=88.0)}
    text = page(jpeg=dict(data=JPEG, runs=runs))
    assert line_of(text, 'Big', 'Recasting (Conv)')[5] == 'not run'
    assert line_of(text, 'Recasting')[1] == '12.00'
    more = {'a': run(make_result, leaf, top1=92.0), 'b': run(make_result, leaf, top1=91.0, seed=1)}
    text = page(jpeg=dict(data=JPEG, runs=runs), lossless=dict(data=LOSSLESS, runs=more))
    assert line_of(text, 'Big', 'Recasting (Conv)')[5] == '8.50 ± 0.71'


def test_table_of_trainings(page, make_result):
    runs = dict(
        teacher=run(make_result, 'backprop_big', method='backprop', teacher=None, top1=90.0, images=9000, seconds=60.0),
        recasting=run(make_result, 'recasting_small', images_seen=5000, train_images=2000),
        kd_mse=run(make_result, 'kd_mse_small', method='kd_mse', top1=None),
    )
    first = dict(top1=80.0, images=1234, note='at too high a rate')
    about = dict(title='Big → small', teacher='Big, 90 %', note='A note.', tuning='Tuned.', first_try=first)
    text = page(some=dict(data=JPEG, runs=runs, **about))
    assert '### Big → small\n' in text
    assert 'Data: CIFAR-10 (JPEG): re-encoded images. Teacher: Big, 90 %. Machine: a CPU, 2 cores, 1 thread(s).' in text
    assert line_of(text, 'the teacher') == ['the teacher', '10.00', '–', '9,000', '–', '60 s', '0']
    assert line_of(text, 'Recasting') == ['Recasting', '12.00', '+2.00', '5,000', '2.5', '40 s', '0']
    assert line_of(text, 'KD (MSE + cross entropy)')[1:4] == ['failed', '–', '3,840']
    told = 'A note. Tuned. First try: 20.00 % error after 1,234 images trained on, at too high a rate. Everything: '
    assert f'{told}[results/some.json](results/some.json).' in text
    assert '\npython tools/train.py backprop_big\npython tools/train.py recasting_small\n' in text


def latency_file(**fields):
    def took(ms, ratio):
        return dict(median_ms=ms, p10_ms=ms / 2, p90_ms=ms * 2, ratio=ratio)

    sizes = {
        '1': {'net': took(8.0, 1.0), 'kd_small': took(2.0, 3.9), 'other': took(16.0, 0.5)},
        '64': {'net': took(90.0, 1.0), 'kd_small': took(60.0, 1.5)},
    }
    group = dict(teacher='net', same={'kd_small': ['recasting_small_imagenet']}, latency=sizes)
    conditions = dict(cpu='a CPU', gpu='a GPU', threads=2, torch='2.13.0', load_average=0.5)
    settings = dict(device='cpu', dtype='float32', channels_last=True, compile=False, fuse_bn=False)
    return dict(command='bench --json', conditions=conditions, settings=settings | fields, groups=[group])


def test_latency_ratios(page):
    text = page(latency_cpu=latency_file())
    assert '### a CPU, 2 thread(s), float32, channels last, torch 2.13.0\n' in text
    assert line_of(text, 'Net → C', '1') == ['Net → C', '1', '3.00x', '3.90x', '2.00', '1.00–4.00', '8.00']
    assert line_of(text, 'Net → C', '64')[2:4] == ['1.50x', '1.50x']
    assert line_of(text, 'net → other')[1:4] == ['1', '–', '0.50x']
    assert 'recasting_small_imagenet.py --json' not in text
    assert 'load average was 0.5 when it began. Everything: [results/latency_cpu.json]' in text
    elsewhere = latency_file()
    elsewhere['groups'][0]['same'] = {}
    assert line_of(page(latency_cpu=elsewhere), 'Net → C')[3] == 'not run'
    assert '### a GPU, float16, torch 2.13.0\n' in page(
        latency_cpu=latency_file(device='cuda', dtype='float16', channels_last=False)
    )


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('some', '{', r'some\.json is not JSON'),
        ('some', dict(data=JPEG, runs=dict(a={})), r"some\.json: run 'a' lacks method, seed, .*machine"),
        (
            'latency_x',
            dict(groups=[]),
            r'latency_x\.json is not of benchmark_latency\.py: it lacks command, conditions',
        ),
    ],
)
def test_file_that_is_something_else(name, content, message, page):
    with pytest.raises(ValueError, match=message):
        page(**{name: content})


def test_trainings_that_do_not_belong_together(page, make_result):
    runs = dict(a=make_result(), b=make_result(method='kd_mse', classes=100))
    with pytest.raises(ValueError, match=r'some\.json: results on different numbers of classes'):
        page(some=dict(data=JPEG, runs=runs))
    with pytest.raises(ValueError, match=r'some\.json does not say on what data'):
        page(some=dict(runs=dict(a=make_result())))


def test_markdown_table():
    table = markdown_table(['a', 'b'], [['x|y', 1]], right=['b'])
    assert table == '| a | b |\n| --- | ---: |\n| x\\|y | 1 |'
