"""The staged loop: a schedule is a list of stages, each with its own length, optimiser and trainable set.

::

    run ─▶ run_stage ─▶ run_epoch ─▶ run_iter ─▶ train_step
     │       │ begin: the algorithm puts the stage's student in place; wrap, optimiser, schedulers
     │       └ end: relative error, validation, record, next stage; a checkpoint may be written at any position
     └──▶ run_apart: parallel stages that follow one another, see ``engine.block_parallel``
"""

import copy
import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice, takewhile

import torch
from mmengine.device import get_device
from mmengine.dist import get_dist_info
from mmengine.runner import BaseLoop
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from mmrecast.engine.batches import batch_size, check_loader, counted, evenly_spaced, for_one_process, loader_from
from mmrecast.engine.block_parallel import train_blocks
from mmrecast.engine.budget import within_budget
from mmrecast.engine.checkpoints import load_strictly, random_state, restoring, set_random_state
from mmrecast.engine.hooks import check_hooks
from mmrecast.engine.numbers import check_images, check_start, check_weights, starting, stop_line
from mmrecast.engine.optimizers import fit_scheduler
from mmrecast.engine.records import describe_stage, top_of
from mmrecast.engine.scheduled import check_stage, restore_scheduled
from mmrecast.registry import LOOPS
from mmrecast.stages import Stage
from mmrecast.utils.digests import digest, digest_tensors

CHECKED_IMAGES = 16  # per loader, before training


@LOOPS.register_module()
class StagedLoop(BaseLoop):
    """Train an algorithm stage by stage.

    Args:
        runner (StagedRunner): The runner.
        dataloader (DataLoader | dict): Training data.
        stages (list[dict]): Entries of :class:`mmrecast.stages.Stage`; the algorithm expands them.
        val_interval (int, optional): Validate every so many epochs of a stage, too. Defaults to None: at its end only.
        probe_images (int): Images on which the relative error is measured. Defaults to 512.
        budget (int, optional): Iterations of all stages in all, to which lengths and schedulers are scaled in
            proportion; what a start reads counts. Defaults to None: as the stages say.

    Raises:
        ValueError: An entry, an optimiser or a scheduler of a stage is wrong, or a hook or sampler cannot serve stages.
        KeyError: A type is not registered.
    """

    alone = False  # whether this is the loop of one block, which its process trains by itself

    def __init__(
        self,
        runner,
        dataloader: DataLoader | dict,
        stages: Sequence[dict],
        val_interval: int | None = None,
        probe_images: int = 512,
        budget: int | None = None,
    ) -> None:
        if not isinstance(stages, list | tuple) or not stages:
            raise ValueError(f'a schedule is a list of stages, got {stages!r}')
        entries = [Stage.from_config(entry) for entry in stages]
        for name, value in dict(val_interval=val_interval, probe_images=probe_images).items():
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f'{name} of the StagedLoop must be a whole number of at least 1, got {value!r}')
        check_hooks(runner)
        self.stages = runner.bare_model.expand(entries)  # before any data are read: that may take long
        super().__init__(runner, dataloader)
        check_loader(self.dataloader)
        self.val_interval, self.probe_images = val_interval, probe_images
        self._default_optim = copy.deepcopy(runner.optim_wrapper)
        self._default_scheduler = copy.deepcopy(runner.param_schedulers)
        runner.param_schedulers = None  # built per stage
        self._whole_loader = None
        if any(stage.parallel for stage in self.stages):
            self._whole_loader = for_one_process(self.dataloader, runner.seed)
        self._scheduled = dict(self.model.scheduled)  # where every stage begins
        if budget is not None:
            size = self.dataloader.batch_size or 1
            starts = [-(-self.model.start_images_of(stage) // size) for stage in self.stages]
            batches = [self._batches(stage) for stage in self.stages]
            self.stages = within_budget(self.stages, budget, batches, starts, self._default_scheduler)
        for stage in self.stages:
            check_stage(stage, *self._optimizer_of(stage), self.model.scheduled, self._batches(stage), get_device())
        self._lengths = [stage.total_iters(self._batches(stage)) for stage in self.stages]
        self._as_written = digest([stages, budget, self._default_optim, self._default_scheduler])
        self.stage_index, self.started = 0, False
        self._epoch = self._iter = self._stage_epoch = self._stage_iter = self._batch = 0
        self.history: list[dict] = []
        self.images, self.seconds = 0, 0.0
        self._running: dict = {}
        self._timed: deque[float] = deque(maxlen=100)  # training seconds after each of the last iterations
        self._clock = 0.0
        self._resumed: dict | None = None
        self._teacher_digest: str | None = None
        self._pending_random: dict | None = None
        self.stop_training = False
        for drawing in (self.model.data_preprocessor, self.dataloader.dataset):
            if hasattr(drawing, 'set_epoch') and hasattr(drawing, 'seed'):
                drawing.seed += runner.seed

    # ---- what mmengine's hooks ask ----------------------------------------------------------------------------------

    @property
    def model(self) -> nn.Module:
        """nn.Module: The algorithm."""
        return self.runner.bare_model

    @property
    def max_epochs(self) -> int:
        """int: Epochs of all stages."""
        return sum(-(-n // self._batches(stage)) for stage, n in zip(self.stages, self._lengths, strict=True))

    @property
    def max_iters(self) -> int:
        """int: Iterations of all stages."""
        return sum(self._lengths)

    @property
    def epoch(self) -> int:
        """int: Epochs done in all stages so far."""
        return self._epoch

    @property
    def iter(self) -> int:
        """int: Iterations done in all stages so far."""
        return self._iter

    @property
    def stage_epoch(self) -> int:
        """int: Epochs done in the current stage."""
        return self._stage_epoch

    @property
    def stage_iter(self) -> int:
        """int: Iterations done in the current stage."""
        return self._stage_iter

    @property
    def _stage_over(self) -> bool:
        return self._stage_iter >= self._lengths[self.stage_index] or self.stop_training

    @property
    def stage(self) -> Stage:
        """Stage: The current stage (the last one, when all are done)."""
        return self.stages[min(self.stage_index, len(self.stages) - 1)]

    @property
    def position(self) -> str:
        """str: Where the run stands, for people."""
        return self.position_at(self._stage_iter)

    def position_at(self, iteration: int) -> str:
        """Return, for people, where an iteration of the current stage (from 1) is."""
        if self.stage_index == len(self.stages):
            return f'all {len(self.stages)} stages done'
        where = f'stage {self.stage_index + 1}/{len(self.stages)} {self.stage.name}'
        return f'{where}, iteration {iteration}/{self._lengths[self.stage_index]}'

    def seconds_left_in_stage(self) -> float | None:
        """Return an estimate from the stage's iterations so far, None before the first."""
        if len(self._timed) < 2:
            return None
        each = (self._timed[-1] - self._timed[0]) / (len(self._timed) - 1)
        return each * (self._lengths[self.stage_index] - self._stage_iter)

    # ---- the loop ---------------------------------------------------------------------------------------------------

    def run(self) -> nn.Module:
        """Run what is left of the schedule."""
        self.check_data()
        self.runner.call_hook('before_train')
        while self.stage_index < len(self.stages):
            (self.run_apart if self.stage.parallel else self.run_stage)()
        if self._resumed is not None:  # resumed from the end: nothing to train
            self._restore(self._resumed)
        self.runner.call_hook('after_train')
        return self.runner.model

    def check_data(self) -> None:
        """Compare the data with the networks: the number of classes, and a few images and labels of each loader.

        Raises:
            ValueError: They disagree, a label is outside the classes, or an image holds NaN.
        """
        loops = (self, self.runner.val_loop, self.runner.test_loop)
        for loader in [loop.dataloader for loop in loops if loop is not None]:
            classes = (getattr(loader.dataset, 'metainfo', None) or {}).get('classes')
            if classes:
                self.model.check_classes(len(classes))
            if isinstance(loader.dataset, IterableDataset):  # it may not begin twice
                continue
            with torch.random.fork_rng(devices=[]):
                for batch in self.sample_batches(loader, CHECKED_IMAGES):
                    samples = batch.get('data_samples')
                    what = 'training' if loader is self.dataloader else 'validation or test'
                    check_images(loader, CHECKED_IMAGES, 0, batch, what)
                    self.model.check_labels(samples.get('gt_label') if isinstance(samples, dict) else None)
                    if loader is self.dataloader:
                        self.model.check_training_data(loader.dataset, samples)

    def run_stage(self) -> None:
        """Run the current stage, or what is left of it."""
        record = self._train_stage()
        self._end_stage(record, validate=self.stage.val)
        self.runner.call_hook('at_position', kind='stage')

    def _train_stage(self) -> dict:
        """Train the current stage, or what is left of it, and return its record."""
        self._begin_stage()
        while self._batch or not self._stage_over:
            self.run_epoch()
        self.runner.call_hook('before_keeping')
        check_weights(self.runner)
        return self._judged(self._record())

    def _judged(self, record: dict) -> dict:
        """Let the algorithm take back a stage that made things worse than is wanted; every process does as the first.

        Raises:
            FloatingPointError: The run is to stop there.
        """
        worse = self.model.regressed(self.stage, record)
        worse = worse if self.alone else self.runner._gather(worse)[0]
        if worse is not None and self.model.on_regression == 'stop':
            raise FloatingPointError(stop_line(self.runner, f"{worse} (on_regression='stop')"))
        done = self.model.settle(self.stage, record, worse is not None)
        if done is None:
            if worse is not None:
                self.runner.logger.warning(f'{self.position}: {worse}')
            return record
        trained, error = record['relative_error'], self.relative_error()
        self.runner.logger.warning(f'{self.position}: {worse}: {done}, relative error {error}')
        return record | dict(relative_error=error, relative_error_trained=trained, regression=done)

    def run_apart(self) -> None:
        """Run the parallel stages from the current one on: each on one of the processes, then join what they trained.

        Until all are joined the run stands before the first of them; a checkpoint says so, and the blocks that are done
        lie beside it.
        """
        content, self._resumed = self._resumed, None
        if content is not None:
            self._restore(content)
            if self._pending_random is not None:
                self._set_random()
        if not self.history:
            self.runner.call_hook('at_position', kind='stage')
        indices = list(takewhile(lambda i: self.stages[i].parallel, range(self.stage_index, len(self.stages))))
        self.runner.model = self.model  # a former stage's wrapper serves nobody here
        random_here = random_state()
        records = train_blocks(self, indices, resumed=self.runner._resume)
        set_random_state(random_here)
        self._set_epoch()
        after = self.apart(indices[-1] + 1)
        for record in records:
            self._end_stage(record, validate=record is records[-1] and self.stage.val)
        self._epoch, self._iter = after._epoch, after._iter
        self.runner.call_hook('at_position', kind='stage')

    def apart(self, index: int) -> 'StagedLoop':
        """Return the loop that trains parallel stage ``index`` on this process by itself.

        Batches are whole, and where they begin depends on the schedule alone: not on the process, nor on how many.
        """
        loop, before = copy.copy(self), self._lengths[self.stage_index : index]
        loop.alone, loop.dataloader, loop.val_interval = True, self._whole_loader, None
        loop.stage_index, loop._timed = index, deque(maxlen=self._timed.maxlen)
        loop._iter = self._iter + sum(before)
        loop._epoch = self._epoch + sum(-(-n // len(self._whole_loader)) for n in before)
        return loop

    def train_alone(self) -> tuple[dict, dict[str, Tensor]]:
        """Train the stage of a loop that stands `apart`; return its record and what the block has become."""
        runner, loop = self.runner, self.runner.train_loop
        runner._train_loop = self  # whom hooks ask
        try:
            with self.model.apart():
                record = self._train_stage()
                return record, self.model.block_state()
        finally:
            runner._train_loop = loop

    def run_epoch(self) -> None:
        """Run one epoch, or what is left of it."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        if not self._batch:
            self._running['epoch_images'] = 0
        self._set_epoch()
        self._clock = time.perf_counter()
        for data_batch in self._remaining_batches():
            self.run_iter(self._batch, data_batch)
            if self._stage_over:
                break
        if not self._batch:
            raise ValueError('the training data gave no batch in this epoch')
        self.runner.call_hook('after_train_epoch')
        self._epoch, self._stage_epoch, self._batch = self._epoch + 1, self._stage_epoch + 1, 0
        due = self.val_interval and self._stage_epoch % self.val_interval == 0
        if due and self.runner.val_loop is not None and not self._stage_over:
            self._share_buffers()
            self.runner.val_loop.run()
        self.runner.call_hook('at_position', kind='epoch')

    def _forget_scalars(self) -> None:
        """Take what the former stage alone computed out of the log, where the last value would stand on."""
        for kept in (self.runner.message_hub.log_scalars, self.runner.message_hub._resumed_keys):
            for name in [name for name in kept if name.startswith('train/')]:
                del kept[name]

    def _set_epoch(self) -> None:
        preprocessor, dataset = self.model.data_preprocessor, self.dataloader.dataset
        if hasattr(preprocessor, 'set_epoch'):
            preprocessor.set_epoch(self._epoch, self._running.get('epoch_images', 0) if self._batch else 0)
        if hasattr(dataset, 'set_epoch'):
            dataset.set_epoch(self._epoch)

    def run_iter(self, idx: int, data_batch: dict | Sequence) -> None:
        """Run one iteration."""
        self.runner.call_hook('before_train_iter', batch_idx=idx, data_batch=data_batch)
        self.model.progress = (self._stage_iter + 1) / self._lengths[self.stage_index]
        self.runner.message_hub.update_scalars({f'train/{name}': v for name, v in self.model.scheduled.items()})
        outputs = self.runner.model.train_step(data_batch, optim_wrapper=self.runner.optim_wrapper)
        seen = batch_size(data_batch) * (1 if self.alone else get_dist_info()[1])
        self._running['images'] += seen
        self._running['epoch_images'] += batch_size(data_batch)
        now = time.perf_counter()
        self._running['seconds'] += now - self._clock
        self._clock = now
        self._timed.append(self._running['seconds'])
        self._running['loss'] = outputs['loss'].detach()
        self.runner.call_hook('after_train_iter', batch_idx=idx, data_batch=data_batch, outputs=outputs)
        self._iter, self._stage_iter, self._batch = self._iter + 1, self._stage_iter + 1, self._batch + 1
        self.runner.call_hook('at_position', kind='iter')

    def sample_batches(self, loader: DataLoader, images: int, training: bool = False) -> Iterator[dict]:
        """Yield preprocessed batches of evenly spaced ``images`` of a loader's data.

        A start must see what training will see, augmentation included: a BN takes its statistics there.
        """
        for data in evenly_spaced(loader, images):
            yield self.model.data_preprocessor(data, training)

    # ---- stages -----------------------------------------------------------------------------------------------------

    def _begin_stage(self) -> None:
        stage, content, self._resumed = self.stage, self._resumed, None
        length = self._lengths[self.stage_index]
        start = time.perf_counter()
        if content is not None:
            self._restore(content)
        again = content is not None and self.started
        # A hook that sets it ends its stage, not the schedule.
        self.stop_training = again and bool(content['staged'].get('stopped'))
        if not again:
            self._stage_iter = self._stage_epoch = self._batch = 0
            if self._pending_random is not None:
                self._set_random()
            self._forget_scalars()
            self.model.scheduled.update(self._scheduled)
            self._set_epoch()
            read: list[int] = []
            batches = self.sample_batches(self.dataloader, self.model.start_images_of(stage), training=True)
            with starting(self.runner):
                self.model.begin_stage(stage, counted(batches, read))
            self._running = dict(
                images=0,
                start_images=sum(read),
                seconds=0.0,
                epoch_images=0,
                loss=None,
                error_start=self.relative_error(),
            )
            check_start(self.runner, self._running['error_start'])
        if not self.alone:
            self.runner.wrap_for_stage()
        self.runner.set_optimizer(*self._optimizer_of(stage))
        self.started = True
        if again:
            self.runner.restore_training(content)
            if not self._batch or self._stage_over:
                self._set_random()
        self.runner.optim_wrapper.initialize_count_status(self.runner.model, self._stage_iter, length)
        self._timed.clear()
        if not again:
            self._running['seconds'] += time.perf_counter() - start
        self.runner.logger.info(f'{self.position} begins' if not again else f'{self.position} goes on')

    def _record(self) -> dict:
        """Return what the current stage has come to, but for its accuracy."""
        stage, running = self.stage, self._running
        self._share_buffers()
        self._set_epoch()  # as it is in a run that resumes here
        return dict(
            index=self.stage_index, name=stage.name, kind=stage.kind, block=stage.block, epochs=stage.epochs,
            iters=self._stage_iter, images=running['images'], start_images=running.get('start_images', 0),
            seconds=round(running['seconds'], 3),
            loss=None if running['loss'] is None else float(running['loss']),
            relative_error_start=running['error_start'],
            relative_error=self.relative_error() if self._stage_iter else running['error_start'],
            top1=None, val_images=None,
        )  # fmt: skip

    def _end_stage(self, record: dict, validate: bool) -> None:
        if validate and self.runner.val_loop is not None:
            metrics = self.runner.val_loop.run()
            record |= dict(top1=top_of(metrics), val_images=len(self.runner.val_dataloader.dataset))
        self.history.append(record)
        self.images, self.seconds = self.images + record['images'], self.seconds + record['seconds']
        self.stage_index, self.started = self.stage_index + 1, False
        self._stage_iter = self._stage_epoch = 0
        self.runner.logger.info(describe_stage(record, len(self.stages)))
        self.runner.call_hook('after_stage', record=record)

    def relative_error(self) -> float | None:
        """Return the current stage's error against the teacher, on the probe images; None where it has none."""
        self._share_buffers()
        return self.model.relative_error(self.stage, self.sample_batches(self.probe_loader, self.probe_images))

    @property
    def probe_loader(self) -> DataLoader:
        """DataLoader: Of whose images some are what relative errors are measured on."""
        return self.runner.val_dataloader if self.runner.val_loop is not None else self.dataloader

    def _share_buffers(self) -> None:
        if self.alone or not self.runner.distributed:
            return
        for buffer in self.model.buffers():
            torch.distributed.broadcast(buffer, 0)

    # ---- optimisers -------------------------------------------------------------------------------------------------

    def _optimizer_of(self, stage: Stage) -> tuple[dict, list[dict]]:
        optim = copy.deepcopy(stage.optim_wrapper or self._default_optim)
        schedulers = stage.param_scheduler if stage.param_scheduler is not None else self._default_scheduler
        schedulers = [schedulers] if isinstance(schedulers, dict) else list(schedulers or [])
        return optim, [fit_scheduler(stage, scheduler, self._batches(stage)) for scheduler in schedulers]

    def _batches(self, stage: Stage) -> int:
        """Return the iterations of an epoch of ``stage``: a process that trains by itself has all of them to do."""
        return len(self._whole_loader if stage.parallel else self.dataloader)

    # ---- position ---------------------------------------------------------------------------------------------------

    def state(self) -> dict:
        """Return the position and the results so far, as plain data."""
        running = dict(self._running)
        if running.get('loss') is not None:
            running['loss'] = float(running['loss'])
        return dict(
            stage=self.stage_index, started=self.started, epoch=self._epoch, iter=self._iter,
            stage_epoch=self._stage_epoch, stage_iter=self._stage_iter, batch=self._batch, stopped=self.stop_training,
            history=self.history, images=self.images, seconds=self.seconds, running=running,
            schedule=[
                dict(kind=s.kind, block=s.block, iters=n) for s, n in zip(self.stages, self._lengths, strict=True)
            ],
        )  # fmt: skip

    def fingerprint(self) -> dict:
        """Return what a checkpoint must share with this run to be resumed, part by part."""
        stages = [self._part(index) for index in range(len(self.stages))]
        apart = [part for part, stage in zip(stages, self.stages, strict=True) if stage.parallel]
        extra = dict(parallel=digest([apart, self._as_written])) if apart else {}
        return self._made_with(len(self.dataloader)) | dict(schedule=digest(stages)) | extra

    def block_fingerprint(self) -> dict:
        """Return what decides on the weights that the loop of a block (see `apart`) leaves, part by part."""
        part = [*self._part(self.stage_index), self._epoch]
        return self._made_with(len(self.dataloader)) | dict(stage=digest(part))

    def _part(self, index: int) -> list:
        return [self.stages[index].name, self._lengths[index], self._optimizer_of(self.stages[index])]

    def _made_with(self, batches: int) -> dict:
        cfg = self.runner.cfg
        if self._teacher_digest is None and self.model.teacher is not None:
            self._teacher_digest = digest_tensors(self.model.teacher)
        return self.model.fingerprint() | dict(
            teacher=self._teacher_digest,
            seed=self.runner.seed,
            data=dict(
                images=len(self.dataloader.dataset),
                batches=batches,
                batch=self.dataloader.batch_size,
                preprocessor=digest([c.get('data_preprocessor') for c in (cfg, cfg.get('model') or {})]),
            ),
        )

    def open_to_any_number(self, staged: dict) -> bool:
        """Tell whether, where a checkpoint stands, nothing depends on how many processes have written it.

        That is so before the first stage and among or behind parallel stages that no other stage preceded.
        """
        before = self.stages[: staged['stage']]
        return self._whole_loader is not None and not staged['started'] and all(stage.parallel for stage in before)

    def resume_from(self, content: dict) -> None:
        """Take the position of a checkpoint; weights and optimiser follow when the loop runs."""
        for name in ('epoch', 'iter', 'stage_epoch', 'stage_iter', 'batch'):
            setattr(self, f'_{name}', content['staged'][name])
        self.stage_index, self.started = content['staged']['stage'], content['staged']['started']
        self._resumed = content

    @restoring()
    def _restore(self, content: dict) -> None:
        staged = content['staged']
        self.model.restore_structure(self.stages, self.stage_index, self.started, content.get('structure') or {})
        load_strictly(self.model, content['state_dict'], 'the checkpoint')
        restore_scheduled(self.model, content)
        self.history, self.images, self.seconds = staged['history'], staged['images'], staged['seconds']
        self._running = dict(staged['running'])
        self.runner.message_hub.load_state_dict(content['message_hub'])
        rank, processes = get_dist_info()
        # Another number of processes may go on where none has drawn yet (see `open_to_any_number`).
        self._pending_random = content['random'][rank] if len(content['random']) == processes else None
        self._resumed = None

    @restoring()
    def _set_random(self) -> None:
        set_random_state(self._pending_random)
        self._pending_random = None

    def _remaining_batches(self) -> Iterator:
        """Yield the batches of the epoch from the current one on; those before are not loaded again."""
        if self._stage_over:  # resumed behind the stage's last iteration
            return
        iterator = iter(loader_from(self.dataloader, self._batch))
        if isinstance(self.dataloader.dataset, IterableDataset):
            iterator = islice(iterator, self._batch, None)
        if self._pending_random is not None:  # resumed within an epoch, whose iterator drew its seed at the beginning
            self._set_random()
        yield from iterator
