"""Network Recasting (Yu, Kang and Choi, AAAI 2019): blocks recast one after another, then fine-tuned."""

import copy
import math
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from mmrecast.algorithms.base import Distiller, as_text
from mmrecast.algorithms.block_start import BlockStart, check_closed_form
from mmrecast.algorithms.hints import Hints
from mmrecast.algorithms.joining import load_block, state_of
from mmrecast.algorithms.reach import reached_by
from mmrecast.algorithms.regression import RESTARTED, ROLLED_BACK, Regression, check_rollback, put_back
from mmrecast.algorithms.teacher_cache import TeacherCache
from mmrecast.algorithms.trained_blocks import TrainedBlocks
from mmrecast.datasets import TensorDataset
from mmrecast.links.parts import build_loss
from mmrecast.links.prefix import Suffix, run_to
from mmrecast.links.recompute import recomputing
from mmrecast.registry import BLOCKS, MODELS
from mmrecast.stages import Stage
from mmrecast.surgery.apply import apply_step, check_plan
from mmrecast.surgery.chain import find_chain, match
from mmrecast.surgery.closed_form import Start
from mmrecast.surgery.plan import Plan, PlanEntry, make_plan, sources_of
from mmrecast.surgery.spans import block_at
from mmrecast.surgery.student_file import Origin
from mmrecast.utils.modules import device_of, get_module, untouched, xavier_init
from mmrecast.utils.names import nearest

STARTS = ('xavier', 'closed_form')
NEXT_BLOCKS = ('fresh', 'teacher', 'frozen')


@MODELS.register_module()
class Recasting(Distiller):
    """Recast the blocks of a teacher one after another.

    Stage ``recast`` k: the student, a copy of the teacher whose first k-1 sources are already recast, gets target k;
    what reads the target's output is rebuilt if the width changes. All that leads to the output of the block behind it
    (the logits, behind the last) trains on the block loss between the two networks there (Eq. 1); both forward passes
    end there. Stage ``finetune``: everything trains on ``kd_loss`` of the logits plus ``task_loss`` (Eq. 2).

    With ``block_input='teacher'`` no block waits for another: nothing before block k is computed in the student, and
    entries with ``parallel=True`` train each block apart, on a copy of the teacher in which it alone is recast (see
    ``engine.block_parallel``). Blocks joined afterwards have not met each other's errors: stage ``align`` k trains what
    leads to the same place as stage ``recast`` k, on the student's own input, and replaces and initialises nothing.

    Args:
        teacher, teacher_ckpt, data_preprocessor: See :class:`Distiller`.
        recipe (list[dict]): Rules ``dict(source=pattern(s), target=dict(type=…))``; see ``surgery.plan.make_plan``.
        block_loss (dict): Loss of the recasting stages. Defaults to ``MSELoss`` (Eq. 1).
        kd_loss (dict): Loss on the logits when fine-tuning. Defaults to ``MSELoss`` (Eq. 2).
        task_loss (dict): Loss against the labels when fine-tuning. Defaults to ``CrossEntropyLoss``.
        start (str | dict): How a target begins: 'xavier' (the paper), or 'closed_form', least squares on some training
            images, as ``dict(type='closed_form', images=1024, ridge=1e-4)`` if the defaults do not serve.
        next_block (str, optional): Block k+1 while block k trains: 'fresh' (the paper: initialised anew, trained),
            'teacher' (the teacher's weights, trained) or 'frozen' (the teacher's weights, untouched). Where its input
            width changes closed_form folds the new width into it, and from xavier it is always fresh. Defaults to
            'fresh' for the xavier start, 'frozen' for closed_form.
        earlier (str | int): Which blocks before k train with it: 'all' (the paper) or the last n. Defaults to 'all'.
        block_input (str): What block k gets while it is recast: 'student' (the paper) or 'teacher', the teacher's input
            to block k.
        compare (str): Where the networks are compared: 'next', behind block k+1 (the paper), or 'target', behind k.
        connector (dict, optional): For ``compare='target'`` where the widths differ: a connector built with
            ``in_channel`` and ``out_channel`` filled in.
        teacher_cache (int): MiB for the teacher's outputs at the place of comparison, kept from the first time an image
            is seen in a stage to the next, where crops and flips are repeated (``views`` of the data preprocessor) or
            there are none. Per view it takes one output for each training image. Defaults to 0: none.
        hints (dict, optional): ``dict(blocks=pattern(s), loss=dict(type=…))``: fine-tuning compares the outputs of
            these blocks, too, by ``RelativeMSELoss`` of weight 5 where no loss is given. Not with a ``teacher_cache``,
            which keeps logits. Defaults to None: as in the paper, the logits alone.
        trained_blocks (dict, optional): Files of blocks that were trained apart, by the blocks' paths, as
            ``tools/plan.py --train-images`` leaves them: their stages begin with those weights, not with the start.
            Defaults to None.
        checkpointing (bool): Whether the student's blocks keep their inputs alone in training and compute the rest
            again in the backward pass: the same weights, less memory, one more forward pass. Defaults to False.
        on_regression (str): What happens to a block that its recast stage leaves with a larger relative error than its
            closed-form start had, or than ``max_error``: 'keep' (the paper) it as it is; 'stop' the run; 'restart', the
            student becomes what it was at the stage's start if that was better; 'rollback', the student becomes what it
            was before the stage, with the source block. Widths must be kept then. Defaults to 'keep'.
        max_error (float, optional): See ``on_regression``. Defaults to None: only the closed-form start counts.

    Raises:
        ValueError: An option is none of those above, or the recipe cannot be carried out on this teacher.
        KeyError: A type is not registered.
    """

    stage_kinds = ('recast', 'align', 'finetune')
    empty_kinds = ('recast',)  # a closed-form start does the work alone
    parallel_kinds = ('recast',)

    def __init__(
        self,
        teacher: dict | str | nn.Module,
        recipe: Sequence[dict],
        teacher_ckpt: str | None = None,
        block_loss: dict | nn.Module = dict(type='MSELoss'),
        kd_loss: dict | nn.Module = dict(type='MSELoss'),
        task_loss: dict | nn.Module = dict(type='CrossEntropyLoss'),
        start: str | dict = 'xavier',
        next_block: str | None = None,
        earlier: str | int = 'all',
        block_input: str = 'student',
        compare: str = 'next',
        connector: dict | None = None,
        teacher_cache: int = 0,
        hints: dict | None = None,
        trained_blocks: dict | None = None,
        checkpointing: bool = False,
        on_regression: str = 'keep',
        max_error: float | None = None,
        data_preprocessor: dict | nn.Module | None = None,
    ) -> None:
        super().__init__(teacher, teacher_ckpt, data_preprocessor)
        if self.teacher is None:
            raise ValueError('Recasting needs a teacher: the network that is to be recast')
        start = dict(type=start) if isinstance(start, str) else dict(start)
        self.start = _choice('start', start.pop('type', None), STARTS)
        self.start_images, self.ridge = start.pop('images', 1024), start.pop('ridge', 1e-4)
        if start:
            raise ValueError(f'start has no option {next(iter(start))!r} (images, ridge)')
        if isinstance(self.start_images, bool) or not isinstance(self.start_images, int) or self.start_images < 1:
            raise ValueError(f'images of the start must be a whole number of at least 1, got {self.start_images!r}')
        if isinstance(self.ridge, bool) or not isinstance(self.ridge, int | float) or not 0 <= self.ridge < math.inf:
            raise ValueError(f'ridge of the start must be a number of at least 0, got {self.ridge!r}')
        default_next = 'fresh' if self.start == 'xavier' else 'frozen'
        self.next_block = _choice('next_block', next_block or default_next, NEXT_BLOCKS)
        self.block_input = _choice('block_input', block_input, ('student', 'teacher'))
        self.compare = _choice('compare', compare, ('next', 'target'))
        if earlier != 'all' and (isinstance(earlier, bool) or not isinstance(earlier, int) or earlier < 0):
            raise ValueError(f"earlier must be 'all' or how many of the last blocks train, got {earlier!r}")
        self.earlier, self.checkpointing = earlier, checkpointing
        self.block_loss = build_loss(block_loss, 'block_loss')
        self.kd_loss, self.task_loss = build_loss(kd_loss, 'kd_loss'), build_loss(task_loss, 'task_loss')
        self.connector_cfg, self.connector = connector, None
        self.teacher_cache = TeacherCache(teacher_cache)
        if not isinstance(checkpointing, bool):
            raise ValueError(f'checkpointing must be True or False, got {checkpointing!r}')
        self._loss_cfgs = as_text([block_loss, kd_loss, task_loss, connector, *([hints] if hints else [])])

        self.chain = find_chain(self.teacher, self.input_shape, sources_of(recipe))
        self.plan: Plan = make_plan(self.teacher, recipe, self.input_shape, self.chain)
        check_plan(copy.deepcopy(self.teacher), self.plan)
        self.hints = None if hints is None else Hints(hints, self.plan)
        self.trained_blocks = TrainedBlocks(trained_blocks, self.plan, self.teacher)
        self.regression = Regression(on_regression, max_error, self.start == 'closed_form')
        self._check_options()
        self.student = self._copy_of_teacher()
        self.rolled_back: set[str] = set()  # blocks that have become the teacher's again
        self.origin = Origin(self.teacher_constructor, self.plan)
        self.stage: Stage | None = None
        self._suffix: Suffix | None = None  # where the student begins, in a teacher-fed stage
        self._steps_done = 0
        self.starts: dict[str, Start] = {}  # of this process, by block: what each start came to

    # ---- stages -----------------------------------------------------------------------------------------------------

    def expand(self, entries: Sequence[Stage]) -> list[Stage]:
        """Turn ``recast`` and ``align`` entries into one stage per block; see the base class."""
        stages, paths, done = [], [self.plan.entries[i].path for i in self.plan.steps], 0
        for entry in super().expand(entries):
            if entry.kind == 'finetune':
                stages.append(entry)
                continue
            if entry.kind == 'align':
                if not done:
                    raise ValueError('align: no block is recast before it that it could train')
                selected = _selected(entry, paths[:done], paths[:done])
                stages += [replace(entry, blocks=None, block=path) for path in selected]
                continue
            if entry.parallel and self.block_input != 'teacher':
                raise ValueError(
                    f"{entry.name}: parallel=True needs block_input='teacher': given the student's, "
                    'a block waits for those before it'
                )
            if not (entry.epochs or entry.iters) and self.start != 'closed_form':
                raise ValueError(f"{entry.name}: a length of 0 needs start='closed_form', which does the work alone")
            if done == len(paths):
                raise ValueError(f'{entry.name}: a recast stage too many, all {done} blocks of the recipe have one')
            selected = _selected(entry, paths, paths[done:])
            if selected != paths[done : done + len(selected)]:
                raise ValueError(
                    f'recast stages go through the plan in order: {selected} where {paths[done]!r} is next'
                )
            done += len(selected)
            stages += [self._as_long_as_it_trains(replace(entry, blocks=None, block=path)) for path in selected]
        if done < len(paths):
            raise ValueError(f"no recast stage for block {paths[done]!r} of the recipe: write blocks='all'")
        return stages

    def _as_long_as_it_trains(self, stage: Stage) -> Stage:
        """Return a recast stage, of no iterations where its target has no weights and nothing else may train."""
        target = self.plan.entries[self._step(stage)].target
        alone = self.block_input == 'teacher' or self.earlier == 0
        alone &= self.compare == 'target' or self.next_block == 'frozen'
        if not alone:
            return stage
        with torch.random.fork_rng(devices=[]):
            weights = any(True for _ in BLOCKS.build(dict(target)).parameters())
        return stage if weights else replace(stage, epochs=None, iters=0)

    def start_images_of(self, stage: Stage) -> int:
        """See the base class; a closed-form start reads some."""
        solved = self.start == 'closed_form' and stage.kind == 'recast' and stage.block not in self.trained_blocks
        return self.start_images if solved else 0

    def begin_stage(self, stage: Stage, batches: Iterable[dict] = (), initialise: bool = True) -> None:
        """Put target k in place, start it, and set what trains; see the base class."""
        self.stage, self.connector, self._suffix = stage, None, None
        self.teacher_cache.clear()
        self.regression.kept = {}
        if stage.kind == 'finetune':
            super().begin_stage(stage)
            if self.hints is not None:
                self.hints.begin(self.student, self.teacher, self._noise())
            return
        step = self._step(stage)
        if stage.kind == 'align':
            self._set_trainable(*reached_by(self.student, self._tap(step), self._cut(step), self.input_shape))
            return
        entry = self.plan.entries[step]
        if initialise:
            self.regression.keep(self.student, at_start=False)
        old = block_at(self.student, entry.path, entry.span)
        new = apply_step(self.student, self.plan, step)
        self._steps_done += 1
        follower = self._following(step)
        trained = entry.path in self.trained_blocks
        begun = trained or self.start == 'closed_form'  # and so is what reads it
        frozen = self.next_block == 'frozen' and (begun or not set(new) & set(follower))
        if initialise:
            # A block that does not train in this stage keeps its weights, unless they no longer fit.
            folding = begun and self.next_block != 'fresh'
            fresh = set(entry.modules if folding else new)
            fresh |= set(follower) if self.next_block == 'fresh' and self.compare == 'next' else set()
            for path in sorted(fresh):
                xavier_init(get_module(self.student, path))
            if trained:
                self.trained_blocks.load(self.student, entry.path)
            elif self.start == 'closed_form':
                known = (self.ridge, self.start_images, self.block_input == 'teacher')
                start = BlockStart(self.student, self.teacher, self.plan, step, old, new, *known)
                self.starts[entry.path] = start(batches, folding, self.compare == 'next')
            self.regression.keep(self.student, at_start=True)
        if self.compare == 'target' and self.connector_cfg is not None:
            self.connector = self._build_connector(entry).to(next(self.student.parameters()).device)
        parameters, live = reached_by(
            self.student, self._tap(step), self._cut(step), self.input_shape, follower if frozen else ()
        )
        self._set_trainable(parameters, live)
        self._begin_at(entry.path)

    def _begin_at(self, path: str) -> None:
        """Let a teacher-fed stage run nothing of the student before the block at ``path``."""
        if self.block_input == 'teacher':
            self._suffix = Suffix(self.student, path, self._noise(), included=True)

    @property
    def on_regression(self) -> str:
        """str: What happens to a block that became worse than is wanted."""
        return self.regression.what

    def regressed(self, stage: Stage, record: dict) -> str | None:
        """See the base class; recast stages are judged."""
        if stage.kind != 'recast':
            return None
        return self.regression.worse(record['relative_error'], record['relative_error_start'])

    def settle(self, stage: Stage, record: dict, worse: bool) -> str | None:
        """See the base class; 'restart' helps only where the start was better."""
        kept, self.regression.kept = self.regression.kept, {}
        if worse and self.on_regression == 'rollback':
            entry = self.plan.entries[self._step(stage)]
            put_back(self.student, self.teacher, entry.modules)
            self._leave_out({*self.rolled_back, entry.path})
            self.student.load_state_dict(kept)
            self.connector = None
            self._begin_at(entry.path)
            return ROLLED_BACK
        if worse and self.on_regression == 'restart' and record['relative_error'] > record['relative_error_start']:
            self.student.load_state_dict(kept)
            return RESTARTED
        return None

    def _leave_out(self, paths: Iterable[str]) -> None:
        """Note which blocks are the teacher's again."""
        self.rolled_back = set(paths)
        self.origin = Origin(self.teacher_constructor, self.plan.without(self.rolled_back))

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Give a teacher-fed stage a student of its own meanwhile: the teacher, none of its blocks recast."""
        kept, rolled_back = (self.student, self._steps_done, getattr(self, '_live', None)), self.rolled_back
        self.student, self._steps_done = self._copy_of_teacher(), 0
        try:
            yield
        finally:
            self.student, self._steps_done, self._live = kept
            self._leave_out(rolled_back)
            self.stage = self.connector = self._suffix = None

    def block_state(self) -> dict[str, Tensor]:
        """Return a copy of all that the current stage trains, for `join`; nothing of a block that was rolled back."""
        if self.stage.block in self.rolled_back:
            return {}
        block = get_module(self.student, self.stage.block)
        return state_of(self.student, {*self._live, *block.modules()})

    def join(self, stage: Stage, state: dict[str, Tensor]) -> None:
        """Put the block into the student that ``stage`` trained apart; the stages of a group follow in their order.

        Args:
            stage (Stage): Which stage it was.
            state (dict[str, Tensor]): What `block_state` gave at its end.

        Raises:
            ValueError: Names or shapes are not those of the stage's block.
        """
        step = self._step(stage)
        self._steps_done += 1
        if not state:
            self._leave_out({*self.rolled_back, stage.block})
            return
        apply_step(self.student, self.plan, step)
        load_block(self.student, self.plan.entries[step].path, state)

    def restore_structure(self, stages: Sequence[Stage], index: int, started: bool, structure: dict) -> None:
        """See the base class."""
        self.student, self.connector, self._steps_done = self._copy_of_teacher(), None, 0
        self._leave_out(structure.get('rolled_back', ()))
        for stage in stages[:index]:
            if stage.kind == 'recast':
                if stage.block not in self.rolled_back:
                    apply_step(self.student, self.plan, self._step(stage))
                self._steps_done += 1
        super().restore_structure(stages, index, started, structure)
        self.regression.kept = structure.get('kept', {})

    def structure(self) -> dict:
        """See the base class: which blocks were rolled back, and what the current stage may have to put back."""
        if self.on_regression == 'keep':
            return {}
        return dict(rolled_back=sorted(self.rolled_back), kept=self.regression.kept)

    @property
    def student_plan(self) -> Plan:
        """Plan: The recipe's, but for blocks that were rolled back."""
        return self.plan.without(self.rolled_back)

    def origin_so_far(self) -> Origin:
        """See the base class; blocks whose stage has not begun are the teacher's."""
        return Origin(self.teacher_constructor, self.plan.after(self._steps_done).without(self.rolled_back))

    def fingerprint(self) -> dict:
        """See the base class."""
        options = dict(start=self.start, images=self.start_images, ridge=self.ridge, next_block=self.next_block)
        options |= dict(earlier=self.earlier, block_input=self.block_input, compare=self.compare)
        options |= dict(losses=self._loss_cfgs) | self.regression.fingerprint() | self.trained_blocks.fingerprint()
        return super().fingerprint() | dict(recipe=self.plan.to_dict(), options=options)

    # ---- losses -----------------------------------------------------------------------------------------------------

    def loss(self, inputs: Tensor, data_samples: dict) -> dict[str, Tensor]:
        """Return Eq. 1 in a stage of one block, the two terms of Eq. 2 in fine-tuning."""
        blocks = [entry.path for entry in self.plan.entries] if self.checkpointing else ()
        with recomputing(self.student, blocks):
            return self._losses(inputs, data_samples)

    def _losses(self, inputs: Tensor, data_samples: dict) -> dict[str, Tensor]:
        if self.stage.kind != 'finetune':
            s_feature, t_feature = self._compared(inputs, data_samples)
            if self.connector is not None:
                s_feature = self.connector(s_feature)
            return dict(loss_block=self.block_loss(s_feature, t_feature))
        hinted: dict[str, Tensor] = {}
        if self.hints is not None:
            s_logits, t_logits, hinted = self.hints(inputs)
        else:
            with torch.no_grad():
                (t_logits,) = self.teacher_cache(data_samples, lambda: (self.teacher(inputs),))
            s_logits = self.student(inputs)
        labels = data_samples['gt_label']
        return dict(loss_kd=self.kd_loss(s_logits, t_logits), loss_task=self.task_loss(s_logits, labels)) | hinted

    def check_training_data(self, dataset: Sized, data_samples: dict | None) -> None:
        """See the base class: what is kept of the teacher must come again, and be known by its number."""
        self.teacher_cache.num_images = len(dataset)
        if not self.teacher_cache.mib:
            return
        if getattr(self.data_preprocessor, 'view', None) is None:
            raise ValueError(
                'teacher_cache keeps what comes again, but crops and flips are new in every epoch: set views=… of the '
                'data_preprocessor, or leave teacher_cache out'
            )
        if not isinstance(dataset, TensorDataset):
            raise ValueError(
                f'teacher_cache needs images that come again as they were: a {type(dataset).__name__} may change them '
                'at random itself; use a TensorDataset (CIFAR10, …), or leave teacher_cache out'
            )

    @torch.no_grad()
    def relative_error(self, stage: Stage, batches: Iterable[dict]) -> float | None:
        """Return Σ(s − t)² / Σ(t − mean_c t)² where the stage compares (at the logits in fine-tuning), in eval mode."""
        squared, n, total, squares = 0.0, 0, 0.0, 0.0
        with untouched(self):
            for batch in batches:
                inputs = batch['inputs']
                if stage.kind != 'finetune':
                    s, t = self._compared(inputs)
                    s = s if self.connector is None else self.connector(s)
                else:
                    s, t = self.student(inputs), self.teacher(inputs)
                s, t = (x.double().transpose(0, 1).flatten(1) for x in (s, t))
                squared += (s - t).square().sum().item()
                n, total, squares = n + t.shape[1], total + t.sum(1), squares + t.square().sum(1)
        if not n:
            return None
        variance = (squares - total * total / n).sum().item()
        return squared / variance if variance > 0 else None

    def _compared(self, inputs: Tensor, data_samples: dict | None = None) -> tuple[Tensor, Tensor]:
        step = self._step(self.stage)
        tap, cut = self._tap(step), self._cut(step)
        with torch.no_grad():
            t_feature, *t_input = self.teacher_cache(data_samples, lambda: self._taught(tap, inputs))
        if self._suffix is not None:
            return self._suffix(self.student, lambda: run_to(self.student, tap, inputs)[0], t_input[0]), t_feature
        feed = None if cut is None else (cut, Tensor.detach)
        return run_to(self.student, tap, inputs, feed=feed)[0], t_feature

    def _taught(self, tap: str | None, inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the teacher's output at the tap and, in a teacher-fed stage, its input to the block."""
        output, given = run_to(self.teacher, tap, inputs, read=self._suffix and self._suffix.path)
        return (output,) if given is None else (output, given)

    # ---- helpers ----------------------------------------------------------------------------------------------------

    def _noise(self) -> Tensor:
        """Return two images of noise, always the same, to try networks on."""
        noise = torch.randn(2, *self.input_shape, generator=torch.Generator().manual_seed(0))
        return noise.to(device_of(self.student))

    def _copy_of_teacher(self) -> nn.Module:
        return copy.deepcopy(self.teacher).requires_grad_(True)

    def _step(self, stage: Stage) -> int:
        return next(i for i in self.plan.steps if self.plan.entries[i].path == stage.block)

    def _tap(self, step: int) -> str | None:
        return self.plan.entries[step].output if self.compare == 'target' else self.plan.tap(step)

    def _cut(self, step: int) -> str | None:
        """Return the first block that trains, None where the stem trains, too."""
        if self.block_input == 'teacher' and self.stage.kind == 'recast':
            return self.plan.entries[step].path
        if self.earlier == 'all' or step - self.earlier < 0:
            return None
        return self.plan.entries[step - self.earlier].path

    def _following(self, step: int) -> list[str]:
        """Return what reads the target's output: block k+1, or the head's modules with parameters behind the last."""
        if self.plan.follower(step) is not None:
            return list(self.plan.follower(step).modules)
        glue = self.plan.entries[step].glue
        return [path for path in glue if any(True for _ in get_module(self.student, path).parameters())]

    def _build_connector(self, entry: PlanEntry) -> nn.Module:
        widths = dict(in_channel=entry.out_channels, out_channel=entry.out_shape[0])
        return MODELS.build(dict(self.connector_cfg, **widths))

    def _check_options(self) -> None:
        if self.hints is not None and self.teacher_cache.mib:
            raise ValueError('teacher_cache keeps logits, hints need the teacher to run: leave one of the two out')
        if self.connector_cfg is not None and self.compare != 'target':
            raise ValueError("a connector serves compare='target' alone: set that, or leave the connector out")
        if self.start == 'closed_form':
            check_closed_form(self.plan)
        if self.on_regression == 'rollback':
            check_rollback(self.plan)
        for step in self.plan.steps:
            entry = self.plan.entries[step]
            narrowed = entry.out_channels != entry.out_shape[0]
            if self.block_input == 'teacher' and entry.in_channels != entry.in_shape[0]:
                raise ValueError(
                    f"block_input='teacher' needs the width kept before block {entry.path!r}: the teacher gives "
                    f'{entry.in_shape[0]} channels, the student {entry.in_channels}'
                )
            if self.compare == 'target' and narrowed and self.connector_cfg is None:
                raise ValueError(
                    f"compare='target' at block {entry.path!r}: {entry.out_channels} channels against "
                    f"{entry.out_shape[0]} need a connector, e.g. connector=dict(type='ConvModuleConnector')"
                )
            if self.connector_cfg is not None:
                with torch.random.fork_rng(devices=[]):
                    self._build_connector(entry)


def _choice(name: str, value: object, choices: Sequence[str]) -> str:
    if value not in choices:
        raise ValueError(f'{name} must be one of {", ".join(choices)}, got {value!r}{nearest(str(value), choices)}')
    return value


def _selected(entry: Stage, paths: Sequence[str], rest: Sequence[str]) -> list[str]:
    """Return the blocks among ``paths`` that an entry stands for, ``rest`` for 'all'."""
    patterns = [entry.blocks or 'all'] if isinstance(entry.blocks, str | None) else list(entry.blocks)
    if patterns == ['all']:
        return list(rest)
    try:
        return [path for pattern in patterns for path in match(pattern, paths)]
    except ValueError as error:
        raise ValueError(f'{entry.name}: {error} among the blocks of the recipe') from error
