"""Print a config as it is after its bases and options."""

import argparse

from mmengine.config import Config, DictAction

from mmrecast.utils.cli import told_in_one_line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='key=value, overriding the config')
    args = parser.parse_args()
    with told_in_one_line():
        cfg = Config.fromfile(args.config)
        cfg.merge_from_dict(args.cfg_options or {})
    print(cfg.pretty_text)


if __name__ == '__main__':
    main()
