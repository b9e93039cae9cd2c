"""Make every attack of the torture suite, and count what survived.

A file that is there already keeps the families that this call leaves out, so that they can be made one by one.

Example: ``python tests/torture/run.py --out docs/results/torture.json``
"""

import argparse
import json
import multiprocessing
import shlex
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torture.attack import Attack, Family  # noqa: E402  (found by the line above)
from torture.families import FAMILIES  # noqa: E402

from mmrecast.engine.hooks import machine  # noqa: E402
from mmrecast.utils.checkpoint import write_json  # noqa: E402
from mmrecast.utils.setup_env import register_all_modules  # noqa: E402
from mmrecast.utils.versions import made_with  # noqa: E402


def attempt(attack: Attack) -> str | None:
    """Make an attack; return None where it was survived, else what broke."""
    with tempfile.TemporaryDirectory(prefix='torture_') as folder:
        try:
            attack.make(Path(folder))
        except KeyboardInterrupt:
            raise
        except BaseException:
            return traceback.format_exc(limit=-3)
    return None


def prepare() -> None:
    """Make a process ready for attacks."""
    torch.set_num_threads(1)
    register_all_modules()


def attempt_in(family: str, number: int) -> str | None:
    """Make an attack that another process asks for."""
    return attempt(next(one for one in FAMILIES if one.name == family).attacks[number])


def campaign(family: Family, kinds: str = '', jobs: int = 1) -> Iterator[dict]:
    """Make the attacks of a family whose kind contains ``kinds``, ``jobs`` at a time; yield the counts after each."""
    chosen = [(number, attack) for number, attack in enumerate(family.attacks) if kinds in attack.kind]
    attempts, survived, lost = Counter(), Counter(), []
    begin = time.perf_counter()
    with ExitStack() as stack:
        if jobs > 1:
            pool = ProcessPoolExecutor(jobs, multiprocessing.get_context('spawn'), prepare)
            outcomes = stack.enter_context(pool).map(attempt_in, repeat(family.name), [number for number, _ in chosen])
        else:
            outcomes = (attempt(attack) for _, attack in chosen)
        for (_, attack), said in zip(chosen, outcomes, strict=True):
            attempts[attack.kind] += 1
            survived[attack.kind] += said is None
            if said is not None:
                lost.append(dict(kind=attack.kind, seed=attack.seed, said=said))
            state = 'survived' if said is None else f'LOST\n{said}'
            place = f'{attempts.total()}/{len(chosen)}'
            print(f'{family.name} {place} {attack.kind}, seed {attack.seed}: {state}', flush=True)
            yield dict(
                promise=family.promise,
                attacks=len(chosen),
                attempts=attempts.total(),
                survived=survived.total(),
                seconds=round(time.perf_counter() - begin, 1),
                kinds={kind: dict(attempts=n, survived=survived[kind]) for kind, n in attempts.items()},
                lost=lost,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [family.name for family in FAMILIES]
    parser.add_argument('--only', nargs='+', choices=names, default=names, help='families (all)')
    parser.add_argument('--kind', default='', help='only the attacks whose kind contains this; nothing is written')
    parser.add_argument('--jobs', type=int, default=1, help='attacks of a family at a time (1)')
    parser.add_argument('--out', type=Path, help='JSON file for the counts')
    args = parser.parse_args()
    if args.jobs < 1:
        parser.error(f'--jobs must be at least 1, got {args.jobs}')
    prepare()
    content = json.loads(args.out.read_text()) if args.out and args.out.is_file() else {}
    for family in [family for family in FAMILIES if family.name in args.only]:
        about = dict(command=f'python {shlex.join(sys.argv)}', machine=machine(), versions=made_with(), jobs=args.jobs)
        for result in campaign(family, args.kind, args.jobs):
            content[family.name] = about | result
            if args.out and not args.kind:  # after each: a campaign that is ended leaves what it counted
                write_json({name: content[name] for name in names if name in content}, args.out)
        print(f'{family.name}: {result["survived"]} of {result["attempts"]} survived', flush=True)
    sys.exit(any(content[name]['survived'] < content[name]['attempts'] for name in args.only))


if __name__ == '__main__':
    main()
