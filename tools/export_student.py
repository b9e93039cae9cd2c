"""Write student.pth from a checkpoint of a run: constructor, plan, widths, weights; no teacher, no optimiser."""

import argparse
from tempfile import TemporaryDirectory

from mmrecast.apis import load_student, save_student
from mmrecast.apis.train import build_runner, prepare
from mmrecast.utils.cli import KeyValues, told_in_one_line
from mmrecast.utils.config_file import read_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='the config the checkpoint was trained by')
    parser.add_argument('checkpoint', help="a checkpoint of the run; one of a middle stage gives that stage's student")
    parser.add_argument('out', nargs='?', default='student.pth', help='the file to write')
    parser.add_argument(
        '--network', default='', metavar='NAME', help="a further network of the run, such as 'full' (the student)"
    )
    parser.add_argument('--cfg-options', nargs='+', action=KeyValues, help='key=value, overriding the config')
    args = parser.parse_args()
    with told_in_one_line(), TemporaryDirectory() as logs:
        cfg = read_config(args.config, args.cfg_options)
        runner = build_runner(prepare(cfg, work_dir=logs))
        content = runner.load_checkpoint(args.checkpoint)
        kept = runner.bare_model.kept_networks
        if args.network not in kept:
            others = ', '.join(filter(None, kept))
            there = f'there is {others}' if others else 'leave --network out, the student is all there is'
            raise ValueError(f'the run leaves no network {args.network!r}: {there}')
        save_student(args.out, *kept[args.network], dict(checkpoint=args.checkpoint))
        load_student(args.out)
    print(f'{args.out}: {content["staged"]["stage"]} of {len(content["staged"]["schedule"])} stages done')


if __name__ == '__main__':
    main()
