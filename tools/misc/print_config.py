"""Print a config as it is after its bases and options."""

import argparse

from mmrecast.utils.cli import KeyValues, told_in_one_line
from mmrecast.utils.config_file import read_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--cfg-options', nargs='+', action=KeyValues, help='key=value, overriding the config')
    args = parser.parse_args()
    with told_in_one_line():
        print(read_config(args.config, args.cfg_options).pretty_text)


if __name__ == '__main__':
    main()
