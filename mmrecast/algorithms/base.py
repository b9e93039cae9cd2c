"""What every algorithm shares: a student that trains, a teacher that never changes, stages."""

import json
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmrecast.models import load_weights, network_config
from mmrecast.registry import MODELS
from mmrecast.stages import Stage
from mmrecast.surgery.student_file import Origin, build_source, is_weight_file
from mmrecast.utils.finite import first_not_finite, weights_of
from mmrecast.utils.modules import device_of, untouched
from mmrecast.utils.names import nearest


class Distiller(BaseModel):
    """Base class of algorithms.

    The teacher is no submodule: it is not in ``parameters()``, ``state_dict()``, an optimiser or an EMA, it is always
    in eval mode, and it follows the algorithm to another device.

    Args:
        teacher (dict | str | nn.Module, optional): Config, config path, mmpretrain config name, ``student.pth`` of an
            earlier run (which is recast again), or a network.
        teacher_ckpt (str, optional): File with its weights, which a ``student.pth`` brings itself.
        data_preprocessor (dict | nn.Module, optional): Makes ``dict(inputs, data_samples)`` of a batch.

    Raises:
        ValueError: ``teacher_ckpt`` does not fit the teacher, is not readable, or is missing where the teacher's config
            names weights itself; or its weights are not all finite.
        FileNotFoundError: ``teacher_ckpt`` does not exist.
    """

    stage_kinds: tuple[str, ...] = ()
    on_regression = 'keep'  # what happens to a stage that has made things worse
    empty_kinds: tuple[str, ...] = ()  # of these, the kinds that may be of length 0
    parallel_kinds: tuple[str, ...] = ()  # and those whose stages can train apart from one another
    student: nn.Module
    origin: Origin

    def __init__(
        self,
        teacher: dict | str | nn.Module | None = None,
        teacher_ckpt: str | None = None,
        data_preprocessor: dict | nn.Module | None = None,
    ) -> None:
        if isinstance(data_preprocessor, dict):
            data_preprocessor = MODELS.build(data_preprocessor)
        super().__init__(data_preprocessor=data_preprocessor)
        network, constructor = (None, None) if teacher is None else build_source(teacher)
        by_config = not isinstance(teacher, nn.Module | None) and not is_weight_file(teacher)
        if teacher_ckpt is None and by_config and _names_weights(network_config(teacher)):
            raise ValueError("the teacher's init_cfg of type Pretrained is not read: give the file as teacher_ckpt")
        if teacher_ckpt is not None:
            if network is None:
                raise ValueError(f'teacher_ckpt={teacher_ckpt!r} without a teacher')
            try:
                load_weights(network, teacher_ckpt)
            except FileNotFoundError as error:
                name = Path(teacher_ckpt).parent.name
                config = f'configs/distill/{name.split("_")[0]}/{name}.py' if '_' in name else 'ITS_CONFIG'
                raise FileNotFoundError(
                    f"{error}; give the teacher's weights as model.teacher_ckpt, or train it first: "
                    f'python tools/train.py {config}'
                ) from error
        if network is not None:
            network.requires_grad_(False).eval()
            wrong = first_not_finite(weights_of(network))
            if wrong is not None:
                given = '' if teacher_ckpt is None else f' of {teacher_ckpt}'
                raise ValueError(f"the teacher's weights{given} hold NaN or infinity, first in {wrong}: give others")
        self.__dict__['teacher'] = network
        self.teacher_constructor = constructor
        self._judged = None
        self.scheduled: dict[str, float] = {}  # what parameter schedulers may change beside the optimiser's, by name
        self.progress = 1.0  # share of the current stage that is done, set by the loop at every step

    @property
    def input_shape(self) -> tuple[int, ...]:
        """tuple[int]: (C, H, W) that reaches the networks, as the data preprocessor has it.

        Raises:
            ValueError: The data preprocessor has none.
        """
        shape = getattr(self.data_preprocessor, 'input_shape', None)
        if shape is None:
            raise ValueError('the input shape is not known: use the BatchPreprocessor or give input_shape to the model')
        return tuple(shape)

    def init_weights(self) -> None:
        """Do nothing: weights are set when the algorithm is built and by its stages, not by ``Runner.train()``."""

    def _apply(self, fn, recurse: bool = True):
        if self.teacher is not None:
            self.teacher._apply(fn)
        return super()._apply(fn, recurse)

    def forward(self, inputs: Tensor, data_samples: dict | None = None, mode: str = 'tensor'):
        """Run the student.

        Args:
            inputs (Tensor): Normalised images (N, C, H, W).
            data_samples (dict, optional): ``gt_label`` (N,) and ``sample_idx`` (N,) or None.
            mode (str): 'tensor' for logits (N, classes), 'loss' for a dict of losses, 'predict' for data samples.

        Raises:
            ValueError: ``mode`` is something else.
        """
        if mode == 'tensor':
            return self.student(inputs)
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        raise ValueError(f"mode must be 'tensor', 'loss' or 'predict', got {mode!r}")

    def loss(self, inputs: Tensor, data_samples: dict) -> dict[str, Tensor]:
        """Return the losses of the current stage; keys beginning with ``loss`` are summed and minimised."""
        raise AssertionError(f'{type(self).__name__} must define loss')

    def predict(self, inputs: Tensor, data_samples: dict | None) -> list:
        """Return mmpretrain data samples with the scores of the student (or of another network, see `judging`)."""
        from mmpretrain.structures import DataSample

        scores = (self._judged or self.student)(inputs).softmax(1)
        labels = [None] * len(scores) if data_samples is None else data_samples['gt_label']
        samples = []
        for score, label in zip(scores, labels, strict=True):
            sample = DataSample().set_pred_score(score).set_pred_label(score.argmax())
            samples.append(sample if label is None else sample.set_gt_label(label))
        return samples

    @contextmanager
    def judging(self, network: nn.Module) -> Iterator[None]:
        """Let ``predict`` use ``network`` meanwhile."""
        self._judged = network
        try:
            yield
        finally:
            self._judged = None

    @property
    def judged_networks(self) -> dict[str, nn.Module]:
        """dict[str, nn.Module]: Networks whose outputs must have the data set's classes, by their name for people."""
        networks = dict(teacher=self.teacher, student=self.student)
        return {name: network for name, network in networks.items() if network is not None}

    def check_classes(self, num_classes: int) -> None:
        """Compare the networks' outputs with the data set.

        Raises:
            ValueError: A network has another number of classes than ``num_classes``.
        """
        for name, network in self.judged_networks.items():
            found = self._classes_of(network)
            if found != num_classes:
                raise ValueError(
                    f'the {name} has {found} classes but the data set has {num_classes}: '
                    f'give it a head of {num_classes}, or the data that it knows'
                )

    def check_training_data(self, dataset: Sized, data_samples: dict | None) -> None:
        """Check what the losses need of the training data beside images; there is nothing in general.

        Args:
            dataset (Sized): The training data.
            data_samples (dict, optional): What a batch brings beside images.

        Raises:
            ValueError: Something is missing.
        """

    def stage_products(self, stage: Stage) -> dict[str, dict]:
        """Return what a finished stage leaves for other runs, by file name; nothing in general."""
        return {}

    def check_labels(self, labels: Tensor | None) -> None:
        """Compare labels (N,) with the student's outputs.

        Raises:
            ValueError: A label is none of its classes.
        """
        if labels is None or not labels.numel():
            return
        classes, low, high = self._classes_of(self.student), int(labels.min()), int(labels.max())
        if low < 0 or high >= classes:
            wrong = low if low < 0 else high
            raise ValueError(f'label {wrong} is outside the {classes} classes of the student (0 to {classes - 1})')

    def _classes_of(self, network: nn.Module) -> int:
        with untouched(network), torch.no_grad():
            return network(torch.zeros(2, *self.input_shape, device=device_of(network))).shape[-1]

    # ---- stages -----------------------------------------------------------------------------------------------------

    def expand(self, entries: Sequence[Stage]) -> list[Stage]:
        """Turn a schedule's entries into its stages.

        Raises:
            ValueError: An entry is of a kind this algorithm does not have, of length zero without need, or parallel
                where stages build on one another.
        """
        for entry in entries:
            if entry.kind not in self.stage_kinds:
                raise ValueError(
                    f'{type(self).__name__} has no stage {entry.kind!r}{nearest(entry.kind, self.stage_kinds)}'
                )
            if not (entry.epochs or entry.iters) and entry.kind not in self.empty_kinds:
                raise ValueError(f'{entry.name}: its length must be at least 1, got 0')
            if entry.parallel and entry.kind not in self.parallel_kinds:
                able = (
                    f'only {", ".join(self.parallel_kinds)} do' if self.parallel_kinds else 'none of this algorithm do'
                )
                raise ValueError(
                    f'{entry.name}: parallel=True is for stages that train apart from one another, as {able}'
                )
        return list(entries)

    def start_images_of(self, stage: Stage) -> int:
        """Return how many training images the start of ``stage`` reads; none in general."""
        return 0

    def begin_stage(self, stage: Stage, batches: Iterable[dict] = (), initialise: bool = True) -> None:
        """Bring the student into the form ``stage`` needs and set what trains in it.

        Args:
            stage (Stage): One of those `expand` gave.
            batches (Iterable[dict]): Preprocessed training batches without augmentation, for starts that need data.
            initialise (bool): False when a checkpoint's weights follow. Defaults to True.
        """
        self._set_trainable({name for name, _ in self.student.named_parameters()}, set(self.student.modules()))

    def regressed(self, stage: Stage, record: dict) -> str | None:
        """Return what a finished stage made worse than is wanted, for people; None in general: nothing is judged.

        Args:
            stage (Stage): The stage.
            record (dict): Its ``relative_error_start`` and ``relative_error``.
        """
        return None

    def settle(self, stage: Stage, record: dict, worse: bool) -> str | None:
        """Take back what a finished stage made worse than is wanted.

        Args:
            stage (Stage): The stage.
            record (dict): As for `regressed`.
            worse (bool): Whether it did; every process is told the same.

        Returns:
            str, optional: What has been done, for the stage's record; None where the student stays as it is.
        """
        return None

    def structure(self) -> dict:
        """Return, as plain data, what a checkpoint must say of the student's form beside its schedule; often {}."""
        return {}

    def restore_structure(self, stages: Sequence[Stage], index: int, started: bool, structure: dict) -> None:
        """Bring the student into the form it has in stage ``index`` (before its beginning unless ``started``).

        Args:
            stages (list[Stage]): The schedule.
            index (int): Which of them.
            started (bool): Whether that stage has begun.
            structure (dict): What `structure` gave when the checkpoint was written.
        """
        if started:
            self.begin_stage(stages[index], initialise=False)

    def origin_so_far(self) -> Origin:
        """Return the origin of the student as it is now."""
        return self.origin

    @property
    def kept_networks(self) -> dict[str, tuple[nn.Module, Origin]]:
        """dict[str, tuple]: Plain networks that a run leaves, with their origins: '' is the student, others by name.

        Raises:
            ValueError: The student has no form yet that could be kept.
        """
        return {'': (self.student, self.origin_so_far())}

    def fingerprint(self) -> dict:
        """Return what a checkpoint must agree on for a run to go on from it."""
        return dict(algorithm=type(self).__name__)

    def relative_error(self, stage: Stage, batches: Iterable[dict]) -> float | None:
        """Return the stage's error against the teacher over the teacher's variance, None where it has none."""
        return None

    def _set_trainable(self, parameters: set[str], live: set[nn.Module]) -> None:
        for name, parameter in self.student.named_parameters():
            parameter.requires_grad_(name in parameters)
            parameter.grad = None
        self._live = live

    def train(self, mode: bool = True) -> 'Distiller':
        """Set the mode; only modules the current stage trains go into train mode."""
        super().train(mode)
        live = getattr(self, '_live', None)
        if mode and live is not None:
            for part in self.trained_parts:
                for module in part.modules():
                    module.training = module in live
        return self

    @property
    def trained_parts(self) -> list[nn.Module]:
        """list[nn.Module]: Where a stage chooses what trains."""
        return [self.student]


def _names_weights(config: object) -> bool:
    """Tell whether an ``init_cfg`` in a network's config loads a file, which `init_weights` does not."""
    if isinstance(config, list | tuple):
        return any(map(_names_weights, config))
    return isinstance(config, dict) and (
        str(config.get('type')).split('.')[-1] == 'Pretrained' or any(map(_names_weights, config.values()))
    )


def as_text(configs: Sequence[object]) -> str:
    """Return configs as text for a fingerprint; the order of keys does not count, modules go by their ``repr``."""
    return json.dumps(list(configs), sort_keys=True, default=repr)
