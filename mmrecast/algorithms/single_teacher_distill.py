"""Distil a teacher into a given student through links; with no link, train the student on the labels alone."""

from collections.abc import Mapping, Sequence, Sized

import torch
from torch import Tensor, nn

from mmrecast.algorithms.base import Distiller, as_text
from mmrecast.algorithms.reach import reached_through
from mmrecast.algorithms.start import start_network
from mmrecast.links import LOGITS, LinkSpec, Reader, Tap, build_link
from mmrecast.links.connector_file import connector_content, load_connector
from mmrecast.links.parts import build_loss
from mmrecast.models import InputAdapter
from mmrecast.registry import MODELS
from mmrecast.stages import Stage
from mmrecast.utils.modules import device_of
from mmrecast.utils.names import nearest

PROBE_IMAGES = 4


@MODELS.register_module()
class SingleTeacherDistill(Distiller):
    """Train ``student`` on ``task_loss`` plus the loss of every link.

    Stage ``train``: the task loss and the links of this stage. Stage ``pretrain``, before it: the links of that stage
    alone; both networks run only as far as their taps need. In each stage exactly that trains which its losses reach;
    a connector that was pre-trained on the teacher alone stays as it is afterwards.

    Args:
        student (dict | str | nn.Module): The network to train, initialised as its ``init_cfg`` says if it is given as a
            config (``RecastStudent`` builds the student of a recipe).
        links (list[dict]): Entries ``dict(student=tap, teacher=tap, connector=…, teacher_connector=…, loss=…, stage=…,
            name=…, warmup=…)``; see :class:`LinkSpec`. Defaults to none: ordinary training.
        teacher, teacher_ckpt, data_preprocessor: See :class:`Distiller`; needed only for links that read a teacher.
        taps (dict, optional): ``dict(student={alias: tap}, teacher={alias: tap})``, names that links may use.
        connectors (dict, optional): Connectors by name, which links may share; ``pretrained`` beside a connector's own
            arguments is the file that an earlier run's ``pretrain`` stage left.
        task_loss (dict, optional): Loss against the labels. Defaults to ``CrossEntropyLoss``; None leaves it out.
        teacher_input (dict, optional): How the teacher sees the images, if not as the student does:
            ``dict(mean=…, std=…, size=…)``, see :class:`InputAdapter`.

    Raises:
        ValueError: There is nothing to train on, a link names a teacher where there is none, or what a link compares
            does not fit together.
        KeyError: A tap does not exist or a type is not registered.
    """

    stage_kinds = ('pretrain', 'train')

    def __init__(
        self,
        student: dict | str | nn.Module,
        links: Sequence[Mapping] = (),
        teacher: dict | str | nn.Module | None = None,
        teacher_ckpt: str | None = None,
        taps: Mapping[str, Mapping] | None = None,
        connectors: Mapping[str, Mapping] | None = None,
        task_loss: dict | nn.Module | None = dict(type='CrossEntropyLoss'),
        teacher_input: Mapping | None = None,
        data_preprocessor: dict | nn.Module | None = None,
    ) -> None:
        super().__init__(teacher, teacher_ckpt, data_preprocessor)
        self.student, self.origin = start_network(student)
        self.task_loss = None if task_loss is None else build_loss(task_loss, 'task_loss')
        taught = any(isinstance(link, Mapping) and link.get('teacher') is not None for link in links)
        if taught and self._source_of_targets() is None:
            raise ValueError(f'{len(links)} link(s) but no teacher: give teacher=… or leave links out')
        if not links and task_loss is None:
            raise ValueError('neither links nor a task_loss: there is nothing to train on')
        self.teacher_input = self._adapted(teacher_input)
        self._loss_cfgs = as_text([task_loss, *links, taps, connectors, teacher_input])
        self.stage: Stage | None = None
        self.connectors, self.links = nn.ModuleDict(), nn.ModuleList()
        self._readers: dict[str, dict[str, Reader]] = {}
        self._loaded: set[str] = set()
        if links:
            self._build_links(links, self._checked_taps(taps), connectors or {})
        elif connectors:
            raise ValueError('connectors without links: nothing uses them')

    def _source_of_targets(self) -> nn.Module | None:
        """Return the network that the links' teacher taps read."""
        return self.teacher

    # ---- links ------------------------------------------------------------------------------------------------------

    def _adapted(self, teacher_input: Mapping | None) -> InputAdapter:
        if teacher_input and self.teacher is None:
            raise ValueError('teacher_input without a teacher')
        adapter = InputAdapter(**(teacher_input or {}))
        statistics = [getattr(self.data_preprocessor, name, None) for name in ('mean', 'std')]
        mean, std = (None if value is None else value.flatten().tolist() for value in statistics)
        inside = [] if self.teacher is None else [m for m in self.teacher.modules() if isinstance(m, InputAdapter)]
        for one in (adapter, *inside):
            one.normalised_by(mean, std)
        return adapter

    @staticmethod
    def _checked_taps(taps: Mapping[str, Mapping] | None) -> dict[str, Mapping]:
        taps = dict(taps or {})
        for side, names in taps.items():
            if side not in ('student', 'teacher') or not isinstance(names, Mapping):
                raise ValueError(f'taps is dict(student=dict(name=tap), teacher=dict(name=tap)), got {taps!r}')
        return taps

    def _build_links(self, links: Sequence[Mapping], taps: dict, connectors: Mapping[str, Mapping]) -> None:
        networks = dict(student=self.student, teacher=self._source_of_targets())
        specs = [LinkSpec.from_config(i, link, taps, *networks.values()) for i, link in enumerate(links)]
        names = [self._loss_name(spec) for spec in specs]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f'two links are called {name!r}: names must differ')
        with torch.random.fork_rng():
            torch.manual_seed(0)
            images = torch.randn(PROBE_IMAGES, *self.input_shape, device=device_of(self.student))
        probed = self._probe(images, specs, networks)
        files = {name: cfg.get('pretrained') for name, cfg in connectors.items() if isinstance(cfg, Mapping)}
        plain = {
            name: {k: v for k, v in cfg.items() if k != 'pretrained'} if isinstance(cfg, Mapping) else cfg
            for name, cfg in connectors.items()
        }
        classes = probed['student'][Tap(LOGITS)].shape[-1]
        for spec in specs:
            self.links.append(build_link(spec, probed, networks, classes, plain, self.connectors))
        for name in connectors:
            if name not in self.connectors:
                raise ValueError(f'no link uses the connector {name!r}{nearest(name, self.connectors)}')
            if files.get(name):
                load_connector(self.connectors[name], files[name], name, self.teacher)
                self._loaded.add(name)
        for kind in self.stage_kinds:
            self._readers[kind] = self._readers_of([s for s in specs if s.stage == kind], networks)

    def _probe(self, images: Tensor, specs: list[LinkSpec], networks: dict) -> dict[str, dict[Tap, Tensor]]:
        wanted = dict(student=[Tap(LOGITS)], teacher=[])
        for side in wanted:
            wanted[side] += [tap for spec in specs for tap in spec.taps(side)]
        readers = {side: Reader(side, networks[side], taps) for side, taps in wanted.items()}
        self._probed = readers
        return {
            side: reader.probe(images if side == 'student' else self._teacher_sees(images)) if reader.taps else {}
            for side, reader in readers.items()
        }

    def _readers_of(self, specs: list[LinkSpec], networks: dict) -> dict[str, Reader]:
        readers = {}
        for side in ('student', 'teacher'):
            readers[side] = Reader(side, networks[side], [tap for spec in specs for tap in spec.taps(side)])
            readers[side].copied |= self._probed[side].copied
        return readers

    def _teacher_sees(self, images: Tensor) -> Tensor:
        return self.teacher_input(images)

    @staticmethod
    def _loss_name(spec: LinkSpec) -> str:
        return f'loss_{spec.name}' if spec.name else f'loss_link{spec.index}'

    # ---- stages -----------------------------------------------------------------------------------------------------

    def expand(self, entries: Sequence[Stage]) -> list[Stage]:
        """See the base class.

        Raises:
            ValueError: A stage is empty, out of order, or missing where a link waits for it.
        """
        entries = super().expand(entries)
        kinds = [entry.kind for entry in entries]
        if kinds != sorted(kinds, key=self.stage_kinds.index):
            raise ValueError(f'the order of stages is {", ".join(self.stage_kinds)}, got {", ".join(kinds)}')
        for link in self.links:
            self._check_stage_of(link.spec, kinds)
        here = {link.spec.stage for link in self.links}
        if 'pretrain' in kinds and 'pretrain' not in here:
            raise ValueError("a stage 'pretrain' without a link of that stage: there is nothing to pre-train")
        if 'train' in kinds and 'train' not in here and self.task_loss is None:
            raise ValueError("a stage 'train' without a link of that stage and without task_loss: nothing to train on")
        return entries

    def _check_stage_of(self, spec: LinkSpec, kinds: Sequence[str]) -> None:
        if spec.stage in kinds:
            return
        connector = spec.teacher_connector if isinstance(spec.teacher_connector, str) else None
        if connector in self._loaded:
            return
        line = f"{spec.where} is of stage {spec.stage!r}, which the schedule lacks: add dict(kind='{spec.stage}', …)"
        if connector is not None and spec.stage == 'pretrain':
            line += f', or load what an earlier run left: connectors=dict({connector}=dict(…, pretrained=FILE))'
        raise ValueError(line)

    def begin_stage(self, stage: Stage, batches: Sequence[dict] = (), initialise: bool = True) -> None:
        """Set what trains: what the stage's losses reach, but for connectors that were pre-trained on the teacher."""
        self.stage = stage
        settled = self._settled() if stage.kind == 'train' else []
        if not self.links:
            super().begin_stage(stage)
            return
        frozen = {id(m) for connector in settled for m in connector.modules()}
        parameters, live = reached_through(self, self._try_losses, self.trained_parts, frozen)
        if not parameters:
            raise ValueError(f'stage {stage.name!r} trains nothing: its losses reach no parameter')
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name in parameters)
            parameter.grad = None
        self._live = live

    @property
    def trained_parts(self) -> list[nn.Module]:
        """list[nn.Module]: The student, and the links' connectors and losses."""
        return [self.student, self.links, self.connectors]

    def _settled(self) -> list[nn.Module]:
        """Return the connectors that a ``pretrain`` link trains on the teacher alone."""
        specs = [link.spec for link in self.links if link.spec.stage == 'pretrain' and link.spec.student is None]
        return [self.connectors[s.teacher_connector] for s in specs if isinstance(s.teacher_connector, str)]

    def stage_products(self, stage: Stage) -> dict[str, dict]:
        """Return the named connectors that the last ``pretrain`` stage trained on the teacher, as files."""
        if stage.kind != 'pretrain':
            return {}
        settled = self._settled()
        named = {name: one for name, one in self.connectors.items() if any(one is other for other in settled)}
        return {f'{name}.pth': connector_content(one, self.teacher) for name, one in named.items()}

    # ---- losses -----------------------------------------------------------------------------------------------------

    def loss(self, inputs: Tensor, data_samples: dict | None) -> dict[str, Tensor]:
        """Return ``loss_task`` and one loss per link of the current stage, ``loss_<name>`` or ``loss_link<i>``."""
        kind = 'train' if self.stage is None else self.stage.kind
        task = self.task_loss if kind == 'train' else None
        links = [link for link in self.links if link.spec.stage == kind]
        samples = data_samples or {}
        s_logits, s_values, t_values = self._read(kind, inputs, task is not None)
        losses = {}
        if task is not None:
            losses['loss_task'] = task(s_logits, samples['gt_label'])
        for link in links:
            value = link(s_values, t_values, samples.get('gt_label'), samples.get('sample_idx'))
            warmup = link.spec.warmup
            if warmup:
                value = value * min(self.progress / warmup, 1.0)
            losses[self._loss_name(link.spec)] = value
        return losses

    def _read(self, kind: str, inputs: Tensor, logits: bool) -> tuple[Tensor | None, dict, dict]:
        """Run the networks as far as a stage needs them: student's logits (if asked for), what the taps read."""
        readers = self._readers.get(kind)
        if readers is None:
            return self.student(inputs), {}, {}
        t_values: dict[Tap, Tensor] = {}
        if readers['teacher'].taps:
            with torch.no_grad():
                t_values = readers['teacher'].read(self._teacher_sees(inputs), cut=True)[1]
        if not (logits or readers['student'].taps):
            return None, {}, t_values
        return *readers['student'].read(inputs, cut=not logits), t_values

    def _try_losses(self) -> Tensor:
        """Return the sum of the stage's losses on random images."""
        device = device_of(self.student)
        images = torch.randn(PROBE_IMAGES, *self.input_shape, device=device)
        index = torch.arange(PROBE_IMAGES, device=device)
        labels = index % self._classes_of(self.student)
        losses = self.loss(images, dict(gt_label=labels, sample_idx=index))
        for name, value in losses.items():
            if not isinstance(value, Tensor) or value.dim() or not value.requires_grad:
                what = f'a tensor of shape {tuple(value.shape)}' if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(
                    f'{name} must be a scalar tensor with a gradient for what trains, its loss gives {what}'
                )
        return torch.stack([*losses.values(), images.new_zeros(())]).sum()

    @property
    def judged_networks(self) -> dict[str, nn.Module]:
        """dict[str, nn.Module]: See the base class; a teacher of other classes may teach features."""
        networks = super().judged_networks
        if not any(tap.path == LOGITS for link in self.links for tap in link.spec.taps('teacher')):
            networks.pop('teacher', None)
        return networks

    def check_training_data(self, dataset: Sized, data_samples: dict | None) -> None:
        """See the base class: sample numbers for losses that need them, and what a loss itself checks."""
        for link in self.links:
            for name, key in (('sample_idx', 'sample_idx'), ('gt_labels', 'gt_label')):
                if name in link.needs and (data_samples or {}).get(key) is None:
                    raise ValueError(
                        f'{link.spec.where}: {type(link.loss).__name__} needs {name}, which the training data do not '
                        "give: use a data set of mmrecast's, or put it into what yours returns"
                    )
            if hasattr(link.loss, 'check_dataset'):
                link.loss.check_dataset(len(dataset))

    def fingerprint(self) -> dict:
        """See the base class."""
        changes = self.origin.changes()
        return super().fingerprint() | dict(recipe=changes['plan'], widths=changes['widths'], losses=self._loss_cfgs)
