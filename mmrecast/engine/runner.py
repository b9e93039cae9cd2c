"""mmengine's Runner for staged training: wrapped anew at every stage, exact and safe resume, gloo on the CPU."""

import copy
import functools
import gc
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

import torch
import torch.distributed as torch_dist
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import broadcast_object_list, get_dist_info, is_distributed
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from torch import Tensor, nn

from mmrecast.engine.agreement import before_building, before_training, check_agreement, of_checkpoint
from mmrecast.engine.checkpoints import (
    LAST,
    latest_checkpoint,
    load_student_state,
    random_state,
    read_checkpoint,
    restoring,
    without_processes,
)
from mmrecast.engine.determinism import named_operator, prepare_workspace
from mmrecast.engine.disk import guarded, last_one, told_once
from mmrecast.engine.hooks import ResultHook, machine
from mmrecast.engine.layout import avoid_broken_layout
from mmrecast.engine.numbers import check_weights
from mmrecast.engine.numbers_hook import NumbersHook
from mmrecast.engine.optimizers import SEPARATE, check_parts, fused, named_optimizers, schedulers_by_name
from mmrecast.engine.scheduled import restore_scheduled, split_schedulers, value_schedulers
from mmrecast.engine.watch import PATIENCE, enter_watch, leave_watch, told_to_others
from mmrecast.registry import MODEL_WRAPPERS, RUNNERS
from mmrecast.utils.checkpoint import save_file, write_text
from mmrecast.utils.disk import WRITING, DiskError, cannot_write
from mmrecast.utils.mistakes import explained
from mmrecast.utils.versions import made_with
from mmrecast.utils.work_dir_lock import lock_work_dir


@RUNNERS.register_module()
class StagedRunner(Runner):
    """A Runner whose training is a :class:`StagedLoop`.

    Differences from mmengine's: without a GPU, processes talk through gloo; the model is wrapped for distributed
    training at the start of every stage, when it is known what trains; checkpoints are written whole or not at all,
    hold the position in the schedule and the random state of every process, are read with ``weights_only=True`` and
    loaded strictly; resuming with nothing to resume is an error.

    Args:
        *args: As for mmengine's.
        trains (bool): Whether it is going to train: one runner at a time may in a work dir. Defaults to False.
        **kwargs: As for mmengine's.

    Raises:
        BlockingIOError: Another process trains in the work dir.
    """

    _resumed_from: Mapping = MappingProxyType({})  # what processes compare of the checkpoint

    def __init__(self, *args, trains: bool = False, **kwargs) -> None:
        self._trains, self._lock = trains, None
        with self._leaving_nothing_behind():
            super().__init__(*args, **kwargs)

    @classmethod
    def from_cfg(cls, cfg: Config, trains: bool = False) -> 'StagedRunner':
        """Do as mmengine; for ``trains`` see the class."""
        return Runner.from_cfg.__func__(functools.partial(cls, trains=trains), cfg)

    @contextmanager
    def _leaving_nothing_behind(self) -> Iterator[None]:
        """Say in one line why a run cannot begin, and take away its log; nothing else has been written by then."""
        try:
            with told_to_others(), named_operator(), explained():
                yield
        except Exception as error:
            log_dir = getattr(self, '_log_dir', None)
            if hasattr(self, '_work_dir') and get_dist_info()[0] == 0:
                if log_dir is not None:
                    shutil.rmtree(log_dir, ignore_errors=True)
                self._lock = None
                with suppress(OSError):  # there is more in it: it was there before
                    os.rmdir(self._work_dir)
            if isinstance(error, OSError) and error.errno in WRITING and not isinstance(error, DiskError):
                raise cannot_write(Path(error.filename or self._work_dir), error) from error
            raise

    def dump_config(self) -> None:
        """Do nothing yet: `train` does it, so that a mistake leaves the config of an earlier run as it is."""

    def _log_env(self, env_cfg: dict | None = None) -> None:
        """Do nothing yet: `train` does it, so that a mistake is told without a page of settings before it."""
        if env_cfg is None:
            super()._log_env(self._kept_env)
        else:
            self._kept_env = env_cfg

    def train(self) -> nn.Module:
        """Keep the config in the work dir and train."""
        try:
            with told_to_others(), named_operator():
                self._log_env()
                self._keep_config()
                model = super().train()
        finally:
            self._lock = None
        leave_watch()
        return model

    def test(self) -> dict:
        """Do as mmengine."""
        with told_to_others():
            metrics = super().test()
        leave_watch()
        return metrics

    def _keep_config(self) -> None:
        """Write the config whole or not at all: half of one may be a config, too.

        What a resumed run went on from is left out: that checkpoint will be gone when the config serves again.
        """
        if self.rank:
            return
        cfg = copy.deepcopy(self.cfg)
        if cfg.get('resume'):
            cfg.resume, cfg.load_from = False, None
        name = os.path.basename(cfg.filename or f'{self.timestamp}.py')
        write_text(cfg.dump(), os.path.join(self.work_dir, name))

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """Do as mmengine; a log file that cannot be written is told once, and the run goes on."""
        return told_once(super().build_logger(*args, **kwargs))

    def build_visualizer(self, visualizer: Visualizer | dict | None = None) -> Visualizer:
        """Do as mmengine; what it cannot write is told once, and the run goes on."""
        return guarded(super().build_visualizer(visualizer), self.logger)

    def setup_env(self, env_cfg: dict) -> None:
        """Start gloo where there is no GPU, choose the precision of multiplications, then do as mmengine.

        Several processes are watched over (see ``engine.watch``; ``env_cfg=dict(patience=…)`` in seconds), and must
        have the same code and config.

        PyTorch lets convolutions of float32 round to TF32 where a GPU has it; here only ``env_cfg=dict(tf32=True)``
        does, for both convolutions and matrices: recasting was shown to converge in float32.
        """
        env_cfg = dict(env_cfg)
        tf32, patience = env_cfg.pop('tf32', False), env_cfg.pop('patience', PATIENCE)
        if not isinstance(tf32, bool):
            raise ValueError(f'env_cfg: tf32 must be True or False, got {tf32!r}')
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
        if self.distributed and not is_distributed() and not torch.cuda.is_available():
            if self._launcher != 'pytorch':
                raise ValueError(f"launcher {self._launcher!r} needs a GPU; on CPUs use launcher='pytorch' (torchrun)")
            seconds = (env_cfg.get('dist_cfg') or {}).get('timeout')
            timeout = None if seconds is None else timedelta(seconds=seconds)
            torch_dist.init_process_group(backend='gloo', timeout=timeout)
        super().setup_env(env_cfg)
        enter_watch(patience)
        if self.distributed:
            check_agreement(self._gather, before_building(self.cfg))
        if self._trains:
            self._take_work_dir()

    def _take_work_dir(self) -> None:
        """Lock the work dir, or end every process with the reason why it cannot be had."""
        refusal = [None]
        if get_dist_info()[0] == 0:
            try:
                self._lock = lock_work_dir(self.work_dir)
            except OSError as error:
                refusal = [error]
        broadcast_object_list(refusal)
        if refusal[0] is not None:
            raise refusal[0]

    def set_randomness(self, seed: int | None, diff_rank_seed: bool = False, deterministic: bool = False) -> None:
        """Do as mmengine; where the run is to be deterministic, matrices of cuBLAS are, too."""
        if deterministic:
            prepare_workspace()
        super().set_randomness(seed, diff_rank_seed, deterministic)

    def register_hooks(self, default_hooks: dict | None = None, custom_hooks: list | None = None) -> None:
        """Do as mmengine, and see that a run leaves its result and looks at its numbers, if the config does not."""
        super().register_hooks(default_hooks, custom_hooks)
        for kind in (ResultHook, NumbersHook):
            if not any(isinstance(hook, kind) for hook in self.hooks):
                self.register_hook(kind())

    def register_default_hooks(self, hooks: dict | None = None) -> None:
        """Do as mmengine, with a staged run's checkpoints and late reading of losses where the config names none."""
        ours = dict(checkpoint=dict(type='StagedCheckpointHook'), runtime_info=dict(type='LateInfoHook'))
        super().register_default_hooks(ours | dict(hooks or {}))

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Move the model to the device; `wrap_for_stage` wraps it."""
        self._wrapper_cfg = model_wrapper_cfg
        return model.to(get_device())

    @property
    def bare_model(self) -> nn.Module:
        """nn.Module: The algorithm without a wrapper."""
        return self.model.module if is_model_wrapper(self.model) else self.model

    def wrap_for_stage(self) -> None:
        """See that torch can train the stage, and wrap the algorithm for what requires gradients in it, if distributed.

        An algorithm with several optimisers averages its gradients itself; it only starts alike in every process.
        """
        if layer := avoid_broken_layout(self.bare_model):
            self.logger.warning(f'channels_last is off from here on: with it, torch fails on this CPU in {layer}')
        if not self.distributed:
            return
        self.model = self.bare_model
        if self._parts:
            for tensor in self.model.state_dict().values():
                torch_dist.broadcast(tensor, 0)
            return
        gc.collect()  # the former wrapper takes its gradient hooks with it
        cuda = torch.cuda.is_available()
        cfg = dict(type='MMDistributedDataParallel', broadcast_buffers=True, find_unused_parameters=False)
        cfg |= dict(device_ids=[torch.cuda.current_device()] if cuda else None)
        cfg |= dict(self._wrapper_cfg or {})
        self.model = MODEL_WRAPPERS.build(cfg, default_args=dict(module=self.model))

    @property
    def _parts(self) -> list[str]:
        """list[str]: What the algorithm trains apart, each with its own optimiser; none in general."""
        return list(getattr(self.bare_model, 'optimizer_parts', ()))

    def build_optim_wrapper(self, optim_wrapper: dict | OptimWrapper) -> OptimWrapper:
        """Do as mmengine, fused; several optimisers by name need no constructor to be named."""
        optim_wrapper = fused(optim_wrapper)
        if named_optimizers(optim_wrapper):
            optim_wrapper = dict(constructor=SEPARATE) | dict(optim_wrapper)
        return super().build_optim_wrapper(optim_wrapper)

    def set_optimizer(self, optim_wrapper: dict, param_scheduler: list | None) -> None:
        """Build a stage's optimiser(s), over the parameters that require gradients only, and the schedulers.

        Args:
            optim_wrapper (dict): Config, or configs by the name of the part of the algorithm.
            param_scheduler (list[dict], optional): Configs, or a single dict of them by name; those that name one of
                the algorithm's ``scheduled`` values change it.

        Raises:
            ValueError: The names are not those of the algorithm's parts.
        """
        check_parts('the optimiser', optim_wrapper, self._parts)
        scheduled = self.bare_model.scheduled
        for_values, others = split_schedulers(param_scheduler or [], scheduled)
        schedulers = schedulers_by_name(others, self._parts)
        self.optim_wrapper: OptimWrapper = self.build_optim_wrapper(optim_wrapper)
        wrappers = dict(self.optim_wrapper.items()) if self._parts else {'': self.optim_wrapper}
        for optimizer in (wrapper.optimizer for wrapper in wrappers.values()):
            for group in optimizer.param_groups:
                group['params'] = [p for p in group['params'] if p.requires_grad]
            optimizer.param_groups[:] = [group for group in optimizer.param_groups if group['params']]
        self.param_schedulers = None  # those of the stage before: with built ones, no rate is scaled
        self.scale_lr(self.optim_wrapper, self.auto_scale_lr)
        built = [self._build_param_scheduler(schedulers[name], wrapper) for name, wrapper in wrappers.items()]
        built.append(value_schedulers(for_values, scheduled, len(self.train_dataloader)))
        self.param_schedulers = [scheduler for own in built for scheduler in own]

    def check(self) -> None:
        """Build what training needs and find what is wrong with it before the first batch.

        Raises:
            ValueError, KeyError, TypeError, FileNotFoundError: Something in the schedule, data or checkpoint is.
        """
        with self._leaving_nothing_behind():
            self._train_loop = self.build_train_loop(self._train_loop)
            if not hasattr(self._train_loop, 'check_data'):
                raise ValueError(f'train_cfg must be of type StagedLoop, got {type(self._train_loop).__name__}')
            for stage in self._train_loop.stages:
                given = stage.optim_wrapper or self.optim_wrapper
                check_parts(f'optimiser of stage {stage.name!r}', given, self._parts)
            for loop in (self.val_loop, self.test_loop):  # built on access
                assert loop is None or len(loop.dataloader) >= 0
            self.train_loop.check_data()
            self.load_or_resume()
            if self.distributed:
                loops = dict(training=self.train_loop, validation=self.val_loop, test=self.test_loop)
                facts = before_training(self.train_loop.fingerprint(), loops) | self._resumed_from
                check_agreement(self._gather, facts)

    @functools.cached_property
    def _cfg_text(self) -> str:
        return self.cfg.pretty_text  # formatting it takes longer than writing a small checkpoint

    # ---- checkpoints ------------------------------------------------------------------------------------------------

    def write_checkpoint(self, filename: str) -> str:
        """Write the whole state of the run to ``work_dir/filename`` and make it the one to resume from.

        Raises:
            DiskError: It cannot be written, in every process; the one before it stays the one to resume from.
            FloatingPointError: Weights are not finite; nothing is written.
        """
        self.call_hook('before_keeping')
        check_weights(self)
        path, failed = os.path.join(self.work_dir, filename), None
        states, gradients = self._gather(random_state()), self._gather(self._pending_gradients())
        if self.rank == 0:
            content = dict(
                meta=dict(
                    cfg=self._cfg_text, seed=self.seed, experiment_name=self.experiment_name,
                    epoch=self.epoch, iter=self.iter, deterministic=self.deterministic, machine=machine(),
                    versions=made_with(),
                    dataset_meta=getattr(self.train_dataloader.dataset, 'metainfo', {}),
                ),
                state_dict={k: v.detach().cpu() for k, v in self.bare_model.state_dict().items()},
                staged=self.train_loop.state(),
                structure=self.bare_model.structure(),
                scheduled=dict(self.bare_model.scheduled),
                fingerprint=self.train_loop.fingerprint(),
                random=states,
                message_hub=self.message_hub.state_dict(),
            )  # fmt: skip
            if self.train_loop.started:
                content['gradients'] = gradients
                content['optimizer'] = self.optim_wrapper.state_dict()
                content['param_schedulers'] = [scheduler.state_dict() for scheduler in self.param_schedulers]
            try:
                save_file(content, path)
                write_text(path, os.path.join(self.work_dir, LAST))
            except DiskError as error:
                failed = f'{error}{last_one(self.work_dir)}'
        failed = self._gather(failed)[0]  # nobody goes on before it is there, and all know where it is not
        if failed is not None:
            raise DiskError(failed)
        return path

    def _pending_gradients(self) -> dict[str, Tensor]:
        """Return this process's gradients that wait for an optimiser step: there are some while accumulating only."""
        if not self.train_loop.started or self.optim_wrapper.should_update():
            return {}
        named = self.bare_model.named_parameters()
        return {name: parameter.grad.cpu() for name, parameter in named if parameter.grad is not None}

    @restoring()
    def restore_training(self, content: dict) -> None:
        """Bring the stage's optimiser(s) and schedulers, what they change and gradients that wait to a checkpoint's."""
        self.optim_wrapper.load_state_dict(content['optimizer'])
        for scheduler, state in zip(self.param_schedulers, content['param_schedulers'], strict=True):
            scheduler.load_state_dict(state)
        restore_scheduled(self.bare_model, content)
        gradients, parameters = content.get('gradients'), dict(self.bare_model.named_parameters())
        for name, gradient in (gradients[self.rank] if gradients else {}).items():
            parameters[name].grad = gradient.to(parameters[name].device)

    def load_or_resume(self) -> None:
        """Load or resume as asked.

        Raises:
            ValueError: There is nothing to resume, or the checkpoint belongs to another run.
        """
        if self._has_loaded:
            return
        if self._resume:
            self.resume(self._load_from or latest_checkpoint(self.work_dir))
        elif self._load_from is not None:
            self.load_checkpoint(self._load_from)
        self._has_loaded = True

    def resume(self, filename: str, **kwargs) -> None:
        """Go on from a checkpoint of this very run's recipe, schedule, data and teacher.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is not readable, or was written by a run that differs (the message says in what).
        """
        content = read_checkpoint(filename)
        _, world_size = get_dist_info()
        ours, theirs = self.train_loop.fingerprint(), content['fingerprint']
        if len(content['random']) != world_size:
            if not self.train_loop.open_to_any_number(content['staged']):
                raise ValueError(
                    f'{filename} was written by {len(content["random"])} processes, this run has {world_size}'
                )
            ours, theirs = (without_processes(fingerprint) for fingerprint in (ours, theirs))
        different = sorted(key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key))
        if different:
            raise ValueError(
                f'{filename} cannot be resumed: it was written with another {", ".join(different)}; '
                'start afresh in another work_dir, or restore the config'
            )
        self._resumed_from = of_checkpoint(content)
        self.train_loop.resume_from(content)
        self.logger.info(f'resumed from {filename}: {self.train_loop.position}')

    def load_checkpoint(self, filename: str, *args, **kwargs) -> dict:
        """Load the student of a checkpoint, in the form it had there.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is not readable or belongs to another recipe.
        """
        content = read_checkpoint(filename)
        load_student_state(self.bare_model, content, filename)
        self.logger.info(f'loaded {filename}')
        return content

    def _gather(self, item: object) -> list:
        if not self.distributed:
            return [item]
        items = [None] * self.world_size
        torch_dist.all_gather_object(items, item)
        return items
