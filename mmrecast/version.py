"""The version of mmrecast and the libraries it works with. It imports nothing: ``setup.py`` reads it too."""

__version__ = '0.1.0'

REQUIREMENTS = {
    'torch': '>=2.4',
    'mmengine': '>=0.10.7,<0.11',
    'mmcv': '>=2.0,<2.2',
    'mmpretrain': '>=1.2,<1.3',
}
"""dict[str, str]: Range of versions for each library, as pip writes it. ``mmcv-lite`` counts as ``mmcv``."""
