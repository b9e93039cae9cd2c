"""Write docs/results.md: the paper's counts and errors beside ours, our own trainings, and latency ratios.

::

    docs/paper_tables.yml, counts ──┐
    docs/results/*.json with runs ──┼── results_page ──▶ docs/results.md
    docs/results/latency_*.json ────┘
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mmrecast.analysis.numbers import NOTHING, Stat, duration, milliseconds, times
from mmrecast.analysis.paper import Paper, Row
from mmrecast.analysis.paper_counts import HEAD, Measured, compared
from mmrecast.analysis.results import images_seen
from mmrecast.analysis.results_files import read_latencies, read_trainings
from mmrecast.analysis.rows import ResultRow, table_rows

COMMAND = 'python tools/analysis_tools/paper_tables.py'
_TRAIN, _BENCH = 'python tools/train.py', 'python tools/analysis_tools/benchmark_latency.py'
_TIMES = {1: 'Time/image', 64: 'Time/batch'}  # columns of Table 4, by images in a batch
_NAMES = {
    'recasting': 'Recasting', 'kd_mse': 'KD (MSE + cross entropy)', 'backprop': 'Backprop', 'abloss': 'AB',
    'born_again': 'Born-again', 'factor_transfer': 'Factor Transfer', 'fitnets': 'FitNets',
    'fitnets_one-stage': 'FitNets in one stage', 'logit_std': 'Logit standardisation', 'reviewkd': 'ReviewKD',
    **{name: name.upper() for name in ('at cc crd dist dkd fsp kd l2 nst ofd pkt rkd sp vid wsld byot').split()},
}  # fmt: skip


def results_page(paper: Paper, measured: Mapping[str, Measured], folder: str | Path) -> str:
    """Return the page in Markdown.

    Args:
        paper (Paper): The tables.
        measured (dict[str, Measured]): Their networks' counts.
        folder (str | Path): Where the raw results lie.

    Raises:
        ValueError: A file there is not what its name or its content says.
    """
    trainings = read_trainings(folder)
    parts = [
        '# Results: the paper, the authors’ notebooks, ours',
        f'This page is written by `{COMMAND} --markdown --out docs/results.md`, from '
        '[paper_tables.yml](paper_tables.yml) and the raw results in [results/](results/README.md); a test keeps it '
        'up to date.',
        *_counts(paper, measured),
        *_errors(paper, trainings),
        *_own(trainings),
        *_latencies(paper, read_latencies(folder)),
    ]
    return '\n\n'.join(parts) + '\n'


def markdown_table(head: Sequence[str], lines: Sequence[Sequence[str]], right: Sequence[str] = ()) -> str:
    """Return a Markdown table; ``right`` names the columns set flush right."""
    rule = ['---:' if name in right else '---' for name in head]
    escaped = ([str(cell).replace('|', '\\|') for cell in line] for line in lines)
    return '\n'.join(f'| {" | ".join(line)} |' for line in (head, rule, *escaped))


def _counts(paper: Paper, measured: Mapping[str, Measured]) -> list[str]:
    lines, notes = compared(paper, measured)
    verdicts = [line[HEAD.index('verdict')].split(',')[0] for line in lines]
    told = ', '.join(f'{verdicts.count(verdict)} {verdict}' for verdict in dict.fromkeys(verdicts))
    return [
        '## Counts',
        'Every count that the paper prints for a network of its own, beside ours, which come from running the networks '
        f'of our configs: {told}. “Agrees”: equal once rounded to the printed digits, the ratio to the baseline in '
        'brackets, too. “Explained”: equal once our own count is made with the omission or slip of the note. '
        'M is a million, B a billion; acts are the elements that operators read.',
        f'```bash\n{COMMAND} --check   # fails where a figure neither agrees nor is explained\n```',
        markdown_table(HEAD, lines, right=('printed', 'ours', 'ours, counted as printed')),
        '\n'.join(f'[{number}] {note}  ' for number, note in enumerate(notes, 1)).rstrip(),
    ]


def _errors(paper: Paper, trainings: Mapping[str, dict]) -> list[str]:
    parts = [
        '## Errors on the paper’s data sets',
        'Test errors in percent, top-1 (on ILSVRC2012 top-1 / top-5). CIFAR-10 and CIFAR-100 are the lossless images '
        'here, as in the paper. What we have trained on CIFAR-10 (JPEG), another and harder test, stands in the next '
        'section: none of those errors compares with one of these. What has not been trained on the paper’s data is '
        'marked “not run”, with the command that does it (`DIR` holds the data). On CIFAR a baseline is the teacher of '
        'the students below it and comes first: they look for it in its work directory. Published weights of '
        'torchvision are the teachers on ILSVRC2012.',
    ]
    shown: set[tuple] = set()
    for table in paper.tables:
        lines = []
        for data in table.data:
            for row in table.rows:
                if any(row.errors(data)):
                    lines.append((row.method, row.network, data, _error_line(row, data, paper, trainings)))
        if {line[:3] for line in lines} <= shown:  # Table 5 repeats rows
            continue
        shown |= {line[:3] for line in lines}
        head = ['network', 'row', 'data', 'paper', 'notebook', 'ours', 'command']
        texts = [line[3] for line in lines]
        parts += [f'### {table.name}: {table.title}', markdown_table(head, texts, right=('paper', 'notebook', 'ours'))]
        parts += [table.remark] if table.remark else []
    return parts


def _error_line(row: Row, data: str, paper: Paper, trainings: Mapping[str, dict]) -> list[str]:
    column = next(name for name, text in row.printed.items() if text in row.errors(data))
    printed, notebook = ' / '.join(row.errors(data)), row.notebook.get(column, NOTHING)
    if paper.networks[row.network].source.startswith('torchvision:'):
        return [row.teacher, row.label, data, printed, notebook, NOTHING, 'torchvision’s own weights']
    config = row.config(data)
    runs = [
        run
        for content in trainings.values()
        if _data(content) == data
        for run in content['runs'].values()
        if Path(run.get('config') or '').name == Path(config).name
    ]
    ours = Stat.of([None if run['top1'] is None else 100 - run['top1'] for run in runs])
    command = f'`{_TRAIN} {config} --data-root DIR`'
    return [row.teacher, row.label, data, printed, notebook, ours.text() if ours else 'not run', command]


def _own(trainings: Mapping[str, dict]) -> list[str]:
    parts = [
        '## Our own trainings',
        'Each table is one transformation on one data set, by methods that were given about as many images (the column '
        'tells how many each saw). CIFAR-10 (JPEG) is CIFAR-10 with its images re-encoded as JPEG, which are harder to '
        'tell apart: its errors compare with each other, and with no published one. The gap is the error minus the '
        'teacher’s; ± is the sample standard deviation over the seeds.',
    ]
    for stem, content in trainings.items():
        runs = {name: _totalled(run) for name, run in content['runs'].items()}
        head = ['trained by', 'test error, %', 'gap, points', 'images seen', 'epochs', 'time', 'seeds']
        lines = [_training_line(row) for row in _training_rows(runs)]
        heading = content.get('title') or content.get('pair') or stem
        parts += [f'### {heading}', _about(content), markdown_table(head, lines, right=head[1:])]
        notes = [content[name] for name in ('note', 'tuning') if content.get(name)]
        notes += [_other(name, run) for name, run in content.items() if isinstance(run, dict) and 'top1' in run]
        parts += [' '.join([*notes, f'Everything: [results/{stem}.json](results/{stem}.json).'])]
        commands = dict.fromkeys(run['command'] for run in runs.values() if run.get('command'))
        parts += ['```bash\n' + '\n'.join(commands) + '\n```'] if commands else []
    return parts


def _totalled(run: dict) -> dict:
    """Return a run whose ``images`` are those that it has seen in all."""
    return run | dict(images=run.get('images_seen', images_seen(run)), stages=[])


def _training_rows(runs: Mapping[str, dict]) -> list[ResultRow]:
    rows = table_rows([run for name, run in runs.items() if name != 'teacher'])
    if 'teacher' in runs and rows and rows[0].is_teacher:
        own = runs['teacher']
        cost = dict(images=Stat.of([own['images']]), seconds=Stat.of([own['seconds']]))
        rows[0] = replace(rows[0], results=(own,), **cost)
    return rows


def _about(content: dict) -> str:
    facts = [f'Data: {content["data"].rstrip(".")}.']
    if content.get('teacher'):
        facts.append(f'Teacher: {str(content["teacher"]).rstrip(".")}.')
    machines = dict.fromkeys(_machine(run['machine']) for run in content['runs'].values())
    facts.append(f'Machine: {"; ".join(machines)}.')
    return ' '.join(facts)


def _machine(machine: Mapping) -> str:
    named = [machine.get('gpu') or machine['cpu'], f'{machine["cores"]} cores', f'{machine["threads"]} thread(s)']
    processes = machine.get('processes') or 1
    return ', '.join(named + [f'{processes} processes'] * (processes > 1))


def _training_line(row: ResultRow) -> list[str]:
    method = row.method or 'the teacher'
    train_images = next((run['train_images'] for run in row.results if run.get('train_images')), None)
    epochs = f'{row.images.mean / train_images:.1f}' if row.images and train_images else NOTHING
    return [
        row.label.replace(method, _NAMES.get(method, method), 1) if row.method else method,
        row.error.text() if row.error else 'failed',
        row.gap.text(sign=True) if row.gap else NOTHING,
        f'{row.images.mean:,.0f}' if row.images else NOTHING,
        epochs,
        duration(row.seconds.mean) if row.seconds else NOTHING,
        ', '.join(str(run['seed']) for run in row.results) or NOTHING,
    ]


def _other(name: str, run: dict) -> str:
    error = 'failed' if run['top1'] is None else f'{100 - run["top1"]:.2f} % error'
    images = f' after {run["images"]:,} images trained on' if run.get('images') else ''
    said = f', {str(run["note"]).rstrip(".")}' if run.get('note') else ''
    return f'{name.replace("_", " ").capitalize()}: {error}{images}{said}.'


def _data(content: dict) -> str:
    return content['data'].split(':')[0]


def _latencies(paper: Paper, files: Mapping[str, dict]) -> list[str]:
    rows = {}
    for row in paper.rows:
        if row.printed.get(_TIMES[1]) and row.method == 'Recasting':
            rows[Path(row.config('ILSVRC2012')).stem] = row
    marks = {stem: _marks(row, paper) for stem, row in rows.items()}
    parts = [
        '## Latency',
        'How many times as fast as its teacher a student of Table 4 is; below 1 it is slower. The paper’s ratios are '
        'those of its printed times, on an NVIDIA Titan X (Pascal). Ours come from one run of `benchmark_latency.py` '
        'each, in which teachers and students take turns; [latency.md](latency.md) says how they are measured. No '
        'weights are needed.',
    ]
    missing = dict(rows)
    for stem, content in files.items():
        head = ['network', 'images', 'paper', 'ours', 'ms', 'ms, 10–90 %', 'teacher, ms']
        lines = [line for group in content['groups'] for line in _latency_lines(group, rows, marks)]
        missing = {name: row for name, row in missing.items() if all(_whose(row) != line[0] for line in lines)}
        load = content['conditions'].get('load_average')
        said = f'The machine’s load average was {load} when it began. ' if load is not None else ''
        parts += [f'### {_conditions(content)}', markdown_table(head, lines, right=head[1:])]
        parts += [f'{said}Everything: [results/{stem}.json](results/{stem}.json).']
        parts += [f'```bash\n{content["command"]}\n```']
    if missing:
        lines = [
            [_whose(row), *(times(marks[stem][size]) for size in _TIMES), 'not run'] for stem, row in missing.items()
        ]
        head = ['network', 'paper, 1 image', 'paper, 64 images', 'ours']
        sources = ' '.join(row.config('ILSVRC2012') for row in missing.values())
        parts += [markdown_table(head, lines, right=head[1:])]
        parts += [f'```bash\n{_BENCH} {sources} --json docs/results/latency_cpu.json\n```']
    return parts


def _marks(row: Row, paper: Paper) -> dict[int, float]:
    """Return the printed speed-ups of a row by batch size."""
    base = next(other for other in paper.rows if other.table == row.table and other.network == row.baseline)
    return {size: _ms(base.printed[column]) / _ms(row.printed[column]) for size, column in _TIMES.items()}


def _ms(printed: str) -> float:
    return float(printed.removesuffix('ms'))


def _latency_lines(
    group: Mapping, rows: Mapping[str, Row], marks: Mapping[str, Mapping[int, float]]
) -> list[list[str]]:
    lines = []
    for size, found in group['latency'].items():
        teacher = found[group['teacher']]
        for name, one in found.items():
            if name == group['teacher']:
                continue
            stem = next((other for other in (name, *group['same'].get(name, ())) if other in rows), None)
            mark = marks[stem].get(int(size)) if stem else None
            spread = f'{milliseconds(one["p10_ms"])}–{milliseconds(one["p90_ms"])}'
            numbers = [times(mark), times(one['ratio']), milliseconds(one['median_ms']), spread]
            whose = _whose(rows[stem]) if stem else f'{group["teacher"]} → {name}'
            lines.append([whose, size, *numbers, milliseconds(teacher['median_ms'])])
    return lines


def _whose(row: Row) -> str:
    return f'{row.teacher} → {row.target}'


def _conditions(content: Mapping) -> str:
    where, how = content['conditions'], content['settings']
    on_cpu = how['device'] == 'cpu'
    named = [where['cpu'], f'{where["threads"]} thread(s)'] if on_cpu else [where['gpu']]
    options = [word for word in ('channels_last', 'compile', 'fuse_bn') if how.get(word)]
    return ', '.join([*named, how['dtype'], *options, f'torch {where["torch"]}']).replace('_', ' ')
