"""Install mmrecast: ``pip install -e .[tests,quickstart,timm] -c constraints.txt``."""

import sysconfig
from importlib.metadata import distributions
from pathlib import Path
from runpy import run_path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
VERSION = run_path(str(ROOT / 'mmrecast' / 'version.py'))


def libraries() -> list[str]:
    """Return the requirements on torch and OpenMMLab.

    A full mmcv that is installed already counts; mmcv-lite would overwrite its files.
    """
    needed = dict(VERSION['REQUIREMENTS'])
    site = {sysconfig.get_path('purelib'), sysconfig.get_path('platlib')}
    mmcv = needed.pop('mmcv')
    if not any(found.metadata['Name'] == 'mmcv' for found in distributions(path=list(site))):
        needed['mmcv-lite'] = mmcv
    return [name + versions for name, versions in needed.items()]


readme = ROOT / 'README.md'
setup(
    name='mmrecast',
    version=VERSION['__version__'],
    description='Recast a trained network block by block into a faster one, and distil it, on MMEngine',
    long_description=readme.read_text(encoding='utf-8') if readme.exists() else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['mmrecast', 'mmrecast.*']),
    package_data={'mmrecast.analysis': ['report.html']},
    python_requires='>=3.10',
    install_requires=[*libraries(), 'torchvision>=0.19', 'numpy>=1.26', 'pillow>=9', 'rich>=13'],
    extras_require={
        'tests': ['pytest>=8', 'pytest-xdist>=3.5', 'ruff>=0.9', 'hypothesis>=6'],
        'export': ['onnx>=1.16', 'onnxruntime>=1.18', 'onnxscript>=0.2'],
        'quickstart': ['scikit-learn>=1.3', 'matplotlib>=3.7'],
        'timm': ['timm>=1.0'],
    },
)
