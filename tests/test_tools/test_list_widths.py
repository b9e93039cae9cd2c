import subprocess
import sys
from pathlib import Path

import pytest
import tiny

TOOL = Path(__file__).parents[2] / 'tools' / 'list_widths.py'
NETWORK = tiny.classifier(widths=(4, 8, 16), shortcut='B')


@pytest.fixture
def show(call):
    """Run the tool in this process: (exit status, output, error)."""
    return call


@pytest.fixture
def write(tmp_path, quick):
    """Write the config of an algorithm over the tiny network, return its path."""

    def write_config(kind='AdjoinedNetwork', **options):
        model = dict(type=kind, network=NETWORK, above=4, data_preprocessor=tiny.preprocessor(), **options)
        return tiny.write(tiny.config(model, []), tmp_path / 'c.py')

    return write_config


def row_of(text, path):
    """Return the cells of a group's row, two spaces or more apart."""
    line = next(line for line in text.split('\n') if line.startswith(f' {path} '))
    return [cell.strip() for cell in line.strip().split('  ') if cell.strip()]


def test_a_name_as_a_command():
    done = subprocess.run(
        [sys.executable, str(TOOL), 'torchvision:resnet18', '--shape', '3', '64', '64'], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    text = done.stdout
    assert text.startswith('ResNet on 3×64×64: 13 width groups, 9 adjoined\n')
    tied = 'layer2.0.downsample.0, layer2.1.conv2'
    assert row_of(text, 'layer2.0.conv2') == ['layer2.0.conv2', tied, '128', '2× 128→128, 64→128', '32']
    assert row_of(text, 'layer2.0.conv1') == ['layer2.0.conv1', '–', '128', '64→128', '32']
    assert row_of(text, 'conv1')[-1] == 'kept: conv1 gives 64, not above 64'
    assert row_of(text, 'fc')[2:] == ['1000', '512→1000 linear', "kept: it is the network's output"]


def test_a_config(show, write):
    """Weights by hand: two 3x3 and a 1x1 a block; 576 in all of the first, 2·8·8·9... of the others."""
    status, text, error = show(write(alpha=4))
    assert (status, error) == (0, '') and 'ImageClassifier on 1×8×8: 7 width groups, 4 adjoined' in text
    assert row_of(text, 'backbone.layer3.0.conv2') == [
        'backbone.layer3.0.conv2', 'backbone.layer3.0.shortcut.0', '16', '16→16, 8→16', '4'
    ]  # fmt: skip
    stem, one = 9 * 4, 2 * 9 * 16
    full = stem + one + 9 * (4 * 8 + 8 * 8) + 4 * 8 + 9 * (8 * 16 + 16 * 16) + 8 * 16
    small = stem + one + 9 * (4 * 2 + 2 * 2) + 4 * 2 + 9 * (2 * 4 + 4 * 4) + 2 * 4
    head, tail = text.strip().split('\n')[-2:]
    assert head.startswith(f'full: {full / 1000:.1f} k params, ')
    assert tail.startswith(f'small: {small} params, ') and f'({full / small:.2f}x fewer params, ' in tail


def test_options_come_before_the_config(show, write):
    path = write(alpha=4, exclude=['backbone.layer2'])
    assert row_of(show(path)[1], 'backbone.layer2.0.conv1')[-1] == 'kept: excluded'
    status, text, _ = show(path, '--alpha', 2, '--exclude', 'backbone.layer3')
    assert status == 0 and row_of(text, 'backbone.layer2.0.conv1')[-1] == '4'
    assert row_of(text, 'backbone.layer3.0.conv2')[-1] == 'kept: excluded'
    text = show(path, '--above', 8, '--exclude')[1]
    assert row_of(text, 'backbone.layer2.0.conv1')[-1] == 'kept: backbone.layer2.0.conv1 gives 8, not above 8'
    text = show(path, '--rule', 'bottleneck', '--above', 8, '--exclude')[1]
    assert row_of(text, 'backbone.layer3.0.conv1')[-1] == 'kept: backbone.layer3.0.conv1 reads 8, not above 8'
    assert show(path, '--cfg-options', 'model.alpha=8')[1].count('kept: ') == 5


def test_divisors_by_name(show):
    status, text, _ = show('torchvision:vgg11', '--shape', 3, 32, 32, '--alpha', 'features.0=2', 'classifier.0=8')
    assert status == 0 and 'VGG on 3×32×32: 11 width groups, 2 adjoined' in text
    assert row_of(text, 'features.0')[-1] == '32' and row_of(text, 'classifier.0')[-2:] == ['25088→4096 linear', '512']
    assert row_of(text, 'features.3')[-1] == 'kept: alpha does not name it'


def test_what_the_rule_does_not_know(show):
    text = show('torchvision:vgg11', '--shape', 3, 32, 32)[1]
    assert row_of(text, 'classifier.0')[-1] == 'kept: no convolution: name it in alpha'
    text = show('torchvision:mobilenet_v2', '--shape', 3, 32, 32)[1]
    assert row_of(text, 'features.0.0') == [
        'features.0.0', 'features.1.conv.0.0', '32', '3→32, 32→32 depthwise',
        'kept: features.0.0 gives 32, not above 64',
    ]  # fmt: skip


def test_a_search_shows_what_it_chooses_among(show, write):
    path = write('DifferentiableAdjoinedNetwork', divisors=(1, 2, 8))
    status, text, error = show(path)
    assert (status, error) == (0, '')
    assert row_of(text, 'backbone.layer3.0.conv1')[-1] == '16 | 8 | 2'
    assert row_of(text, 'backbone.conv1')[-1] == 'kept: backbone.conv1 gives 4, not above 4'
    assert text.strip().split('\n')[-1].startswith('with the divisor 8 throughout: ')
    assert row_of(show(path, '--alpha', 2)[1], 'backbone.layer3.0.conv1')[-1] == '8'


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['no/such.py'], 'error: there is no config file no/such.py\n'),
        (['torchvision:resnet5'], "error: torchvision has no classifier 'resnet5' (nearest: resnet"),
        (['torchvision:resnet18', '--alpha', 'x'], "error: alpha must be a whole number of at least 1, got 'x'\n"),
        (['torchvision:resnet18', '--alpha', '0'], 'error: alpha must be a whole number of at least 1, got 0\n'),
        (['torchvision:resnet18', '--alpha', '3'], 'error: alpha=3 does not divide the 128 channels'),
        (['torchvision:resnet18', '--alpha', 'fc=x'], "error: alpha of 'fc' must be a whole number of at least 1, got"),
        (['torchvision:resnet18', '--alpha', 'layer2=2', '3'], 'error: --alpha takes one number, or PATTERN=NUMBER …'),
        (
            ['torchvision:resnet18', '--alpha', 'layer2.0.conv2=2', 'layer2.1.conv2=4'],
            "error: 'layer2.0.conv2' and 'layer2.1.conv2' narrow together",
        ),
        (['torchvision:resnet18', '--above', '600'], 'error: no layer to adjoin: '),
        (['torchvision:resnet18', '--exclude', 'layer9'], "error: block path 'layer9' matches nothing (nearest: layer"),
        (
            ['torchvision:resnet18', '--shape', '1', '32', '32'],
            'error: ResNet cannot be run on input shape (1, 32, 32)',
        ),
    ],
)
def test_mistakes(show, args, message):
    status, text, error = show(*args)
    assert (status, text, error.count('\n')) == (2, '', 1) and error.startswith(message), error


def test_a_divisor_of_a_search_that_does_not_fit(show, write):
    status, _, error = show(write('DifferentiableAdjoinedNetwork', divisors=(1, 3, 4)))
    assert status == 2 and error.startswith('error: a divisor=3 does not divide the 8 channels'), error
