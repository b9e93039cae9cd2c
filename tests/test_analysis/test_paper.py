"""Every count that the paper prints, against our networks: one test a row, by the data and the code of the tool."""

import copy
import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmrecast.analysis.complexity import convention_for, count
from mmrecast.analysis.paper import COUNTS, Correction, Printed, read_paper
from mmrecast.analysis.paper_counts import Measured, compared, figures_of, measure
from mmrecast.analysis.results_page import results_page
from mmrecast.apis.networks import network_configs, networks_of
from mmrecast.models import network_config, untrained
from mmrecast.surgery.apply import replay
from mmrecast.surgery.plan import make_plan

ROOT = Path(__file__).parents[2]
TABLES = ROOT / 'docs' / 'paper_tables.yml'
PAPER = read_paper(TABLES)
ROWS = [pytest.param(row, id=f'{row.table}-{row.teacher}-{row.label}'.replace(' ', '')) for row in PAPER.rows]


@pytest.fixture(scope='module')
def measured(registered):
    spec = importlib.util.spec_from_file_location('paper_tables', ROOT / 'tools/analysis_tools/paper_tables.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool.measured_networks(PAPER)


@pytest.mark.parametrize('row', ROWS)
def test_counts_of_a_row(row, measured):
    figures = figures_of(row, measured, PAPER)
    assert [figure.column for figure in figures] == [column for column in row.printed if column in COUNTS]
    for figure in figures:
        assert figure.verdict in ('agrees', 'explained', 'unresolved'), figure
        assert figure.verdict != 'unresolved' or row.network == 'vgg16_ca'
        assert bool(figure.reasons) == (figure.verdict != 'agrees')


@pytest.mark.parametrize('row', ROWS)
def test_configs_that_train_a_row(row):
    """They are there, and those of KD and back propagation make the very student of the row's network."""
    source = PAPER.networks[row.network].source
    table = next(table for table in PAPER.tables if table.name == row.table)
    if source.startswith('torchvision:'):
        return
    for data in table.data:
        assert (ROOT / row.config(data)).is_file()
    own, counted = (network_configs(ROOT / path) for path in (row.config(table.data[0]), source))
    assert own.recipe == counted.recipe
    assert _origin(own) == _origin(counted)


def _origin(configs):
    return untrained(network_config(configs.source or configs.student))


def test_no_correction_without_need(measured):
    printed = {(row.network, column): text for row in PAPER.rows for column, text in row.printed.items()}
    for name, network in PAPER.networks.items():
        for correction in network.corrections:
            for column in correction.columns:
                figure = Printed.parse(printed[name, column].split(' ')[0])
                assert not figure.fits(measured[name].value(column), 1), (name, column)


@pytest.mark.parametrize(
    ('network', 'column', 'less'),
    [  # worked out by hand
        ('resnet50_convnet', 'Mults', 3 * 64 * 49 * (112**2 - 56**2)),
        ('densenet121', 'Mults', 3 * 64 * 49 * (112**2 - 56**2)),
        ('resnet50_mixed', 'Params', 256 * 1024),
        ('resnet50_mixed', 'Mults', 256 * 1024 * 14**2 + 3 * 64 * 49 * (112**2 - 56**2)),
        ('resnet50_mixed', 'Acts/image', 256 * 14**2),
        ('resnet50_mixed', 'Acts/batch', 64 * 256 * 14**2),
        ('wrn28_10', 'Acts/image', 16 * 32**2),
        ('torchvision_vgg16', 'Acts/image', 3 * 224**2),
        ('resnet83', 'Params', 128 * 32 + 9 * 64 * 32),
        ('resnet83', 'Mults', 128 * 32 * 16**2 + 9 * 64 * 32 * 8**2),
        ('resnet83', 'Acts/image', 32 * 16**2),
        ('densenet100_basic', 'Params', 8 * (24 * 216 + 108 * 300 + 150 * 342)),
        ('densenet100_basic', 'Mults', 8 * (24 * 216 * 32**2 + 108 * 300 * 16**2 + 150 * 342 * 8**2)),
    ],
)
def test_what_a_correction_takes_away(network, column, less, measured):
    assert measured[network].value(column) - measured[network].as_printed(column) == less


def test_honest_counts_by_hand(measured):
    honest = measured['resnet50_convnet'].honest
    stem, classifier = 9408 * 112**2, 512 * 1000
    widths = {64: (3, 0, 56), 128: (3, 1, 28), 256: (5, 1, 14), 512: (2, 1, 7)}  # equal, widening, size
    blocks = sum((same * 9 * w * w + wider * 9 * w * w // 2) * s * s for w, (same, wider, s) in widths.items())
    assert honest.mults == stem + blocks + classifier == 1_794_805_760
    stages = (9 * 16**2, 9 * 16 * 32 + 8 * 9 * 32**2, 9 * 32 * 64 + 8 * 9 * 64**2)
    assert measured['resnet56_convnet'].honest.params == 9 * 3 * 16 + 9 * stages[0] + stages[1] + stages[2] == 412_848


def test_our_teacher_of_option_a():
    """The one the students of ResNet-56 have; the paper's baseline has option B."""
    with torch.device('meta'):
        found = networks_of(ROOT / 'configs/distill/recasting/recasting_resnet56_convnet_cifar10.py')
        counted = count(found.teacher, (3, 32, 32))
    assert (counted.params, counted.mults, counted.acts) == (848_304, 125_485_056, 531_456)


def test_list_of_ratios_in_the_released_script():
    """It is said to make a network of 130.84 M parameters, not C_A."""
    ratios = [0.1, 0.1, 0.2, 0.2, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]
    assert ', '.join(map(str, ratios)) in PAPER.networks['vgg16_ca'].reason
    with torch.device('meta'):
        teacher = networks_of('torchvision:vgg16_bn').teacher
        recipe = [dict(source='features.*', target=dict(type='ConvBlock', width_ratio=ratios))]
        student = replay(copy.deepcopy(teacher), make_plan(teacher, recipe, (3, 224, 224)))
        params = count(student, (3, 224, 224), 'imagenet').params
    assert f'{params / 1e6:.2f} M' == '130.84 M'
    assert '130.84 M' in PAPER.networks['vgg16_ca'].reason


def test_meta_device_counts_the_same(measured):
    found = networks_of(ROOT / PAPER.networks['densenet100_basic'].source)
    assert convention_for(found.input_shape) == 'cifar'
    again = measure(found.student, found.input_shape, PAPER.networks['densenet100_basic'].corrections)
    assert again == measured['densenet100_basic']


def _row(network, method):
    return next(row for row in PAPER.rows if (row.network, row.method) == (network, method))


@pytest.mark.parametrize('wrong', ['0.42M (2.1×)', '0.41M (2.2×)', '0.41B (2.1×)'])
def test_wrong_figure_differs(wrong, measured):
    row = _row('resnet56_convnet', 'KD')
    row = replace(row, printed=row.printed | {'Params': wrong})
    assert [figure.verdict for figure in figures_of(row, measured, PAPER)] == ['differs', 'agrees', 'agrees']
    lines, _ = compared(replace(PAPER, tables=(replace(PAPER.tables[0], rows=(row,)),)), measured)
    assert lines[0][-2].startswith('differs, ')


def test_wrong_deviation_differs(measured):
    network = PAPER.networks['vgg16_ca']
    networks = PAPER.networks | {'vgg16_ca': replace(network, deviations=network.deviations | {'Params': '-0.05 %'})}
    figures = figures_of(_row('vgg16_ca', 'Recasting'), measured, replace(PAPER, networks=networks))
    assert [figure.verdict for figure in figures] == ['differs', 'agrees', 'unresolved']
    assert f'{figures[0].deviation:.3f}' == f'{(120_538_828 / 120_610_000 - 1) * 100:.3f}' == '-0.059'


def test_results_page_is_up_to_date(measured):
    """docs/results.md is what the tool writes; write it anew after a change of configs, counts or raw results."""
    page = results_page(PAPER, measured, ROOT / 'docs' / 'results')
    assert (ROOT / 'docs' / 'results.md').read_text(encoding='utf-8') == page


def test_rows_with_the_same_counts_are_one_line(measured):
    lines, notes = compared(PAPER, measured)
    assert lines[3][:5] == ['Table 2', 'ResNet-56 → Conv', 'Recasting, KD, Backprop', 'Params', '0.41M (2.1×)']
    assert lines[3][5:] == ['412,848 (2.061×)', '', 'agrees', '']
    mixed = next(line for line in lines if line[1] == 'ResNet-50 → C+R_bt' and line[3] == 'Mults')
    assert mixed[2:8] == ['Recasting, KD', 'Mults', '2.40B', '2,534,932,480', '2,395,041,792', 'explained']
    assert [notes[int(number) - 1][:13] for number in mixed[8].replace('[', '').replace(']', '').split(', ')] == [
        "The 7x7 stem'",
        'C+R_bt leaves',
    ]


@pytest.mark.parametrize(
    ('text', 'value', 'ratio', 'fits'),
    [
        ('0.41M (2.1×)', 414_999, 2.149, True),
        ('0.41M (2.1×)', 415_001, 2.1, False),
        ('0.41M (2.1×)', 410_000, 2.151, False),
        ('5.24B', 5_244_999_999, 0, True),
        ('5.24B', 5_245_000_001, 0, False),
        ('64', 64, 0, True),
        ('64', 65, 0, False),
    ],
)
def test_printed_precision(text, value, ratio, fits):
    assert Printed.parse(text).fits(value, ratio) is fits


@pytest.mark.parametrize(
    ('correction', 'message'),
    [
        (dict(leave_out=('conv9',)), r"leaves out 'conv9', which is not counted \(nearest: conv1\)"),
        (dict(map_size={'bn1': 7}), "is about 'bn1', which is not counted"),
        (
            dict(layers={'conv9': dict(type='Conv2d', in_channels=1, out_channels=1, kernel_size=1)}),
            "no module 'conv9'",
        ),
    ],
)
def test_correction_of_a_layer_that_is_not_there(correction, message):
    network = torch.nn.Sequential()
    network.add_module('conv1', torch.nn.Conv2d(3, 4, 3))
    network.add_module('bn1', torch.nn.BatchNorm2d(4))
    with pytest.raises(ValueError, match=message):
        measure(network, (3, 8, 8), [Correction(('Params',), 'why', **correction)])


def test_correction_holds_in_its_columns_alone():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(4, 5, 1))
    found = measure(network, (3, 8, 8), [Correction(('Mults',), 'why', map_size={'1': 4})])
    assert [found.value(column) for column in ('Params', 'Mults')] == [12 + 20, 64 * (12 + 20)]
    assert [found.as_printed(column) for column in ('Params', 'Mults')] == [12 + 20, 64 * 12 + 16 * 20]
    assert found == Measured(found.honest, {'Mults': found.corrected['Mults']})


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('columns: [Mults]', 'columns: [Mult]', r"unknown column 'Mult' \(nearest: Mults"),
        ('network: alexnet_first', 'network: alexnet', r"unknown network 'alexnet' \(nearest: .*alexnet_first"),
        ('method: KD', 'method: KT', r"unknown method 'KT' \(nearest: KD"),
        ('      target: C_A', '      goal: C_A', r"unknown field 'goal' \(nearest: "),
        (", '25']", ']', 'Figure 6 has 3 columns, but alexnet_first has 2'),
        ("'25']", '25 filters]', "'25 filters' is no printed count"),
        ('networks:', 'nets:', "'networks' is missing"),
        ('networks:', 'networks: [', 'while parsing'),
    ],
)
def test_mistake_in_the_tables(old, new, message, tmp_path):
    text = TABLES.read_text(encoding='utf-8')
    assert old in text
    (tmp_path / 'tables.yml').write_text(text.replace(old, new), encoding='utf-8')
    with pytest.raises(ValueError, match=message) as caught:
        read_paper(tmp_path / 'tables.yml')
    assert '\n' not in str(caught.value)


def test_no_tables(tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no file of tables .*none.yml'):
        read_paper(tmp_path / 'none.yml')
