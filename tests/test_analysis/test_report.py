import re
import sys
from html.parser import HTMLParser

import pytest

from mmrecast.analysis.comparison import Comparison
from mmrecast.analysis.plots import SERIES, Mark
from mmrecast.analysis.report import line_marks, write_report
from mmrecast.analysis.results import student_key
from mmrecast.analysis.rows import table_rows

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
    def write(results=None, plan=ROWS, known=measures, **options):
        results = results or [make_result(), make_result('kd', top1=85.0)]
        plans = {student_key(results[0]): plan} if plan else {}
        comparison = Comparison(results, known, plans)
        path = write_report(tmp_path / 'report.html', 'A title', comparison, command='python tools/train.py', **options)
        html = path.read_text(encoding='utf-8')
        return html, Page(html)

    return write


def said_by(parsed):
    return ' '.join(' '.join(parsed.text).split())


def test_page_is_whole_and_needs_nothing_else(page):
    html, parsed = page()
    assert parsed.tags.count('svg') == 3
    assert parsed.tags.count('table') == 4  # lines, the stages of two runs, the plan
    assert not {'script', 'link', 'img', 'iframe'} & set(parsed.tags)
    assert 'http' not in html and '@import' not in html and 'url(' not in html.split('</style>')[0]
    assert len(parsed.ids) == len(set(parsed.ids))
    assert all(r.startswith('#') and r[1:] in parsed.ids for r in parsed.references)
    assert '#0102' not in html  # every stand-in colour has become a variable of the style sheet
    assert 'prefers-color-scheme: dark' in html and 'tabular-nums' in html


def test_page_says_the_numbers(page):
    text = said_by(page()[1])
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
    plan = [dict(ROWS[0], path=EVIL, source=EVIL, target=EVIL)]
    _, parsed = page([evil, dict(evil, seed=1)], plan=plan, notes=[EVIL], teacher_name=EVIL)
    assert 'script' not in parsed.tags
    assert EVIL in ''.join(parsed.text)


def test_parts_without_data_are_left_out(page, make_result):
    plain = make_result('backprop', teacher=None, stages=[dict(kind='train', top1=88.0)])
    html, parsed = page([plain], plan=(), known={})
    assert 'svg' not in parsed.tags
    assert parsed.tags.count('table') == 1
    assert 'The plan' not in html
    assert 'Relative error' not in html


def test_blocks_that_were_not_counted_have_no_figure(page):
    html, parsed = page(plan=[dict(ROWS[0], params=None, mults=None, acts=None)])
    assert parsed.tags.count('svg') == 2 and 'ConvBlock 16×8×8' in html


def recast(target, **fields):
    """Return a plan of one block."""
    entry = dict(action='recast', target=dict(type=target), out_shape=[8, 4, 4], in_channels=8, out_channels=8)
    return dict(plan=dict(entries=[entry | dict(path='a') | fields]))


def test_several_students_have_a_plan_each_and_a_curve_for_every_run(tmp_path, make_result, measures):
    results = [make_result(seed=s, **recast(t)) for t in ('ConvBlock', 'BasicBlock') for s in (0, 1)]
    results += [make_result('kd', stages=[dict(top1=80.0)], **recast('ConvBlock'))]
    keys = [student_key(results[i]) for i in (0, 2)]
    known = dict(teacher=measures['teacher']) | dict.fromkeys(keys, measures[''])
    comparison = Comparison(results, known, dict.fromkeys(keys, ROWS))
    path = write_report(tmp_path / 'report.html', 'A', comparison)
    parsed = Page(path.read_text(encoding='utf-8'))
    text = said_by(parsed)
    assert parsed.tags.count('svg') == 4  # latency, stages, two plans
    assert parsed.tags.count('table') == 1 + 4 + 2
    assert 'Stages in numbers: 4 runs' in text and 'recasting (1 × BasicBlock), seed 1' in text
    assert 'recasting 1 × ConvBlock, 2 seeds' in text
    assert '1 × ConvBlock recasting, kd' in text  # whose plan it is


def test_lines_of_one_student_have_a_colour_each(make_result):
    rows = table_rows([make_result(f'method{i}') for i in range(SERIES + 1)])
    marks = line_marks(rows)
    assert marks['teacher'] == Mark(0) and marks['method0'] == Mark(1) and marks['method1'] == Mark(2)
    assert marks[f'method{SERIES}'].css == 'c1 m1'


def test_students_have_a_colour_and_methods_a_shape(make_result):
    results = [make_result(m, **recast(t)) for m in ('a', 'b') for t in ('ConvBlock', 'BasicBlock')]
    results.append(make_result('a', config='x/other.py', **recast('ConvBlock')))
    marks = list(line_marks(table_rows(results)).values())[1:]
    assert marks == [Mark(1, 0), Mark(2, 0), Mark(1, 1), Mark(2, 1), Mark(1, 2)]


def test_same_arguments_give_the_same_page(page):
    assert page()[0] == page()[0]


def test_errors(page, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match='no results to report on'):
        write_report(tmp_path / 'a.html', 'A', Comparison([]))
    with pytest.raises(KeyError, match="no line 'at' to report on"):
        page(main='at')
    monkeypatch.setitem(sys.modules, 'matplotlib', None)
    with pytest.raises(ImportError, match='plots need matplotlib'):
        page()
