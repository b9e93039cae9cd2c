import re
import sys
from html.parser import HTMLParser

import pytest

from mmrecast.analysis.report import write_report

pytest.importorskip('matplotlib')
VOID = {'meta', 'br', 'link', 'img', 'input', 'hr'}
EVIL = '<script>alert(1)</script> & "quoted" $x_1$'
ROWS = [
    dict(kind='block', path='layer1.0', action='recast', source='basic 16×8×8', target='ConvBlock 16×8×8',
         params=(4608, 2304), mults=(9216, 4608), acts=(2048, 1024)),
    dict(kind='total', path='total', action='', source='', target='', params=(5000, 2700), mults=(9999, 5000),
         acts=(3000, 2000)),
]  # fmt: skip


class Page(HTMLParser):
    """Checks that every tag is closed in order, and collects tags, ids, references and text."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.ids, self.references, self.text = [], [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.note(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.note(tag, attributes)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def note(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name == 'id':
                self.ids.append(value)
            if name in ('href', 'xlink:href', 'src'):
                self.references.append(value)
            self.references += re.findall(r'url\((.*?)\)', value or '')


@pytest.fixture
def page(tmp_path, make_result, measures):
    complexities, latencies = measures

    def write(results=None, **changes):
        results = results or [make_result(), make_result('kd', top1=85.0)]
        arguments = dict(
            plan_rows=ROWS, latencies=latencies, complexities=complexities, command='python tools/train.py'
        )
        path = write_report(tmp_path / 'report.html', 'A title', results, **(arguments | changes))
        html = path.read_text(encoding='utf-8')
        return html, Page(html)

    return write


def test_page_is_whole_and_needs_nothing_else(page):
    html, parsed = page()
    assert parsed.tags.count('svg') == 3
    assert parsed.tags.count('table') == 3
    assert not {'script', 'link', 'img', 'iframe'} & set(parsed.tags)
    assert 'http' not in html
    assert len(parsed.ids) == len(set(parsed.ids))
    assert all(r.startswith('#') and r[1:] in parsed.ids for r in parsed.references)
    assert '#0102' not in html  # every stand-in colour has become a variable of the style sheet
    assert 'prefers-color-scheme: dark' in html


def test_page_says_the_numbers(page):
    text = ' '.join(' '.join(page()[1].text).split())
    for said in (
        'The teacher was recast (1 × basic → ConvBlock): 2.00x fewer weights, 1.90x faster',
        'kd has 3.00 points more error',
        'one image is 0.10 points',
        '4.6 k → 2.3 k',
        'on 200 validation images',
        'python tools/train.py',
        'batch of 2, cpu, 1 thread, median of 7 rounds',
        'cpu a CPU, cores 2, threads 1, processes 1',
        'torch 2.13.0',
        'configs/distill/kd.py',
    ):
        assert said in text


def test_everything_from_files_is_escaped(page, make_result):
    stage = dict(make_result()['stages'][0], name=EVIL)
    evil = make_result(
        EVIL,
        config=EVIL,
        dataset=EVIL,
        data_root=EVIL,
        machine={EVIL: EVIL},
        versions={EVIL: EVIL},
        stages=[stage],
    )
    html, parsed = page(
        [evil], plan_rows=[dict(ROWS[0], path=EVIL, source=EVIL, target=EVIL)], command=EVIL, notes=[EVIL],
        teacher_name=EVIL,
    )  # fmt: skip
    assert 'script' not in parsed.tags
    assert EVIL in ''.join(parsed.text)


def test_parts_without_data_are_left_out(page, make_result):
    plain = make_result('backprop', teacher=None, stages=[dict(kind='train', top1=88.0)])
    html, parsed = page([plain], plan_rows=(), latencies=None, complexities=None, command=None)
    assert 'svg' not in parsed.tags
    assert parsed.tags.count('table') == 1
    assert 'The plan' not in html
    assert 'Relative error' not in html


def test_same_arguments_give_the_same_page(page):
    assert page()[0] == page()[0]


def test_errors(page, tmp_path, make_result, monkeypatch):
    with pytest.raises(ValueError, match='no results to report on'):
        write_report(tmp_path / 'a.html', 'A', [])
    with pytest.raises(ValueError, match='different data sets'):
        page([make_result(), make_result('kd', dataset='Digits')])
    with pytest.raises(KeyError, match="no line 'at' to report on"):
        page(main='at')
    monkeypatch.setitem(sys.modules, 'matplotlib', None)
    with pytest.raises(
        ImportError, match=r"plots need matplotlib; install it with: pip install 'mmrecast\[quickstart\]'"
    ):
        page()
