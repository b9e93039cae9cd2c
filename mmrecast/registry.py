"""Registries of mmrecast: children of mmengine's, and one new root for target blocks.

Types of other OpenMMLab libraries are reached by their scope (``mmpretrain.ResNet``).
"""

from mmengine import registry as mmengine_registry
from mmengine.registry import Registry as _Registry

from mmrecast.utils.names import closest, nearest

__all__ = [
    'BLOCKS', 'DATASETS', 'DATA_SAMPLERS', 'EVALUATOR', 'FUNCTIONS', 'HOOKS', 'INFERENCERS', 'LOG_PROCESSORS', 'LOOPS',
    'METRICS', 'MODELS', 'MODEL_WRAPPERS', 'OPTIMIZERS', 'OPTIM_WRAPPERS', 'OPTIM_WRAPPER_CONSTRUCTORS',
    'PARAM_SCHEDULERS', 'RUNNERS', 'RUNNER_CONSTRUCTORS', 'STRATEGIES', 'TASK_UTILS', 'TRANSFORMS', 'VISBACKENDS',
    'VISUALIZERS', 'WEIGHT_INITIALIZERS', 'unknown_type',
]  # fmt: skip


class Registry(_Registry):
    """An mmengine registry whose error for an unknown type lists the nearest names."""

    def build(self, cfg: dict, *args, **kwargs):
        """Build an object from ``cfg``.

        Raises:
            KeyError: ``cfg['type']`` is a name that nothing is registered under.
        """
        type_ = cfg.get('type') if isinstance(cfg, dict) else None
        if isinstance(type_, str) and self.get(type_) is None:
            raise KeyError(unknown_type(type_, self))
        return super().build(cfg, *args, **kwargs)


def unknown_type(name: str, registry: _Registry) -> str:
    """Return one line on a type that does not exist, with the nearest that do, in whatever library's registry.

    Args:
        name (str): What was given as ``type``, with or without a scope.
        registry (Registry): Where it was looked up.
    """
    root = registry._get_root_registry()
    scopes = {root.scope: root, **root.children}
    scope, plain = root.split_scope_key(name)
    line = f'{name!r} is not registered in {registry.scope}.{registry.name}'
    if scope is not None and scope not in scopes:
        return f'{line}: there is no scope {scope!r}{nearest(scope, scopes)}'
    here = {scope} if scope else {registry.scope, root.scope}
    elsewhere = [s for s in scopes if s not in here and scope is None]
    labels: dict[str, str] = {}
    for where in [s for s in (registry.scope, *scopes) if s in here] + elsewhere:
        prefix = '' if scope is None and where in here else f'{where}.'
        for known in scopes[where].module_dict:
            labels.setdefault(known, prefix + known)
    close = [labels[known] for known in closest(plain, labels)] or sorted(labels.values())[:3]
    suggestion = f' (nearest: {", ".join(close)})' if close else ''
    return f'{line}{suggestion}; custom_imports registers your own'


def _child(root: str, locations: list[str] | None = None) -> Registry:
    parent = getattr(mmengine_registry, root)
    return Registry(parent.name, parent=parent, scope='mmrecast', locations=locations or ['mmrecast.registry'])


MODELS = _child(
    'MODELS',
    [
        'mmrecast.models',
        'mmrecast.datasets',
        'mmrecast.losses',
        'mmrecast.connectors',
        'mmrecast.surgery.student_file',
        'mmrecast.algorithms',
    ],
)
DATASETS = _child('DATASETS', ['mmrecast.datasets'])
DATA_SAMPLERS = _child('DATA_SAMPLERS')
TRANSFORMS = _child('TRANSFORMS')
FUNCTIONS = _child('FUNCTIONS', ['mmrecast.datasets'])
RUNNERS = _child('RUNNERS', ['mmrecast.engine'])
RUNNER_CONSTRUCTORS = _child('RUNNER_CONSTRUCTORS')
LOOPS = _child('LOOPS', ['mmrecast.engine'])
HOOKS = _child('HOOKS', ['mmrecast.engine'])
STRATEGIES = _child('STRATEGIES')
LOG_PROCESSORS = _child('LOG_PROCESSORS', ['mmrecast.engine'])
OPTIMIZERS = _child('OPTIMIZERS')
OPTIM_WRAPPERS = _child('OPTIM_WRAPPERS', ['mmrecast.engine'])
OPTIM_WRAPPER_CONSTRUCTORS = _child('OPTIM_WRAPPER_CONSTRUCTORS')
PARAM_SCHEDULERS = _child('PARAM_SCHEDULERS')
METRICS = _child('METRICS')
EVALUATOR = _child('EVALUATOR')
WEIGHT_INITIALIZERS = _child('WEIGHT_INITIALIZERS')
MODEL_WRAPPERS = _child('MODEL_WRAPPERS', ['mmrecast.engine'])
TASK_UTILS = _child('TASK_UTILS')
VISUALIZERS = _child('VISUALIZERS')
VISBACKENDS = _child('VISBACKENDS')
INFERENCERS = _child('INFERENCERS')

BLOCKS = Registry('block', scope='mmrecast', locations=['mmrecast.blocks'])
"""Target blocks: classes built from ``in_channels, out_channels, stride`` and their own arguments."""
