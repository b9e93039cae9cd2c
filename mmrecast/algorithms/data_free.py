"""Distil without data: a generator makes the images on which a student learns from its teacher.

::

    noise ─▶ generator ─▶ images ─┬▶ student ─▶ links            ─▶ the student's step (student_iter of them)
                                  └▶ teacher ─▶ generator_links  ─▶ the generator's step, through both networks
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from mmengine.dist import all_reduce_params, get_dist_info
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor, nn

from mmrecast.algorithms.base import as_text
from mmrecast.algorithms.generator_link import SIDES, GeneratorLink
from mmrecast.algorithms.single_teacher_distill import PROBE_IMAGES, SingleTeacherDistill
from mmrecast.links import Reader
from mmrecast.registry import MODELS
from mmrecast.stages import Stage
from mmrecast.utils.modules import device_of, untouched


@MODELS.register_module()
class DataFreeDistillation(SingleTeacherDistill):
    """Train a student on the images of a generator that trains, too: DFAD (Fang et al., 2019), ZSKT (Micaelli and
    Storkey, NeurIPS 2019).

    Each iteration has ``student_iter`` steps of the student and one of the generator, each part with an optimiser of
    its own: ``optim_wrapper=dict(student=…, generator=…)``. Of the training data only the size of the batches counts.
    Names and order are MMRazor's, whose generator's step leaves gradients in the student that join the student's next
    step; here, as in the authors' code, they do not. In the generator's step the student stays in train mode, as in
    both.

    Args:
        student, teacher, teacher_ckpt, taps, connectors, teacher_input, data_preprocessor: See
            :class:`SingleTeacherDistill`.
        generator (dict | nn.Module): From noise to images of the shape that the networks take, normalised.
        links (list[dict]): What the student learns from; no loss that needs labels.
        generator_links (list[dict]): What the generator learns from; see :class:`GeneratorLink`.
        student_iter (int): Steps of the student per iteration. Defaults to 1.
        student_train_first (bool): Whether the student's steps come before the generator's. Defaults to False.
        share_images (bool): Whether all steps of an iteration see the same images, as in the authors' code of DAFL and
            ZSKT, not each its own. Defaults to False.

    Raises:
        ValueError: The generator's images are not what the networks take, a number is out of range, a loss needs labels
            or keeps the gradient from the generator, or a link is wrong.
        KeyError: A tap does not exist or a type is not registered.
    """

    stage_kinds = ('train',)

    def __init__(
        self,
        student: dict | str | nn.Module,
        generator: dict | nn.Module,
        links: Sequence[Mapping],
        generator_links: Sequence[Mapping],
        teacher: dict | str | nn.Module,
        teacher_ckpt: str | None = None,
        taps: Mapping[str, Mapping] | None = None,
        connectors: Mapping[str, Mapping] | None = None,
        teacher_input: Mapping | None = None,
        student_iter: int = 1,
        student_train_first: bool = False,
        share_images: bool = False,
        data_preprocessor: dict | nn.Module | None = None,
    ) -> None:
        super().__init__(
            student, links, teacher, teacher_ckpt, taps, connectors, None, teacher_input, data_preprocessor
        )
        if isinstance(student_iter, bool) or not isinstance(student_iter, int) or student_iter < 1:
            raise ValueError(f'student_iter must be a whole number of at least 1, got {student_iter!r}')
        for link in self.links:
            if link.needs:
                name = type(link.loss).__name__
                raise ValueError(f'{link.spec.where}: {name} needs {link.needs[0]}, which generated images do not have')
        self.student_iter, self.student_train_first = student_iter, student_train_first
        self.share_images = share_images
        self.generator = generator if isinstance(generator, nn.Module) else MODELS.build(generator)
        if getattr(self.generator, 'init_cfg', None):
            self.generator.init_weights()
        self._check_generator()
        self._build_generator_links(generator_links, self._checked_taps(taps))
        self._own_cfg = as_text([generator, *generator_links, student_iter, student_train_first, share_images])

    def _check_generator(self) -> None:
        name, dim = type(self.generator).__name__, getattr(self.generator, 'latent_dim', None)
        if not isinstance(dim, int):
            raise ValueError(f'the generator {name} has no latent_dim, the length of the noise it makes images of')
        with untouched(self.generator), torch.no_grad():
            images = self.generator(torch.zeros(2, dim, device=device_of(self.generator)))
        if images.shape[1:] != self.input_shape:
            raise ValueError(
                f'the generator {name} makes images of shape {tuple(images.shape[1:])}, but the networks take '
                f"{self.input_shape} (C, H, W): set its img_size and out_channels, or the preprocessor's input_shape"
            )

    def _build_generator_links(self, entries: Sequence[Mapping], aliases: Mapping[str, Mapping]) -> None:
        if not entries:
            raise ValueError('no generator_links: the generator has nothing to learn from')
        networks = dict(student=self.student, teacher=self.teacher)
        links = [GeneratorLink(i, entry, aliases, networks) for i, entry in enumerate(entries)]
        names = [link.name for link in links]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f'two generator links are called {name!r}: names must differ')
        self.generator_links = nn.ModuleList(links)
        self._generator_readers = {
            side: Reader(side, networks[side], [tap for link in links for tap in link.read_from(side)])
            for side in SIDES
        }
        with torch.random.fork_rng():
            torch.manual_seed(0)
            images = torch.randn(PROBE_IMAGES, *self.input_shape, device=device_of(self.student))
        values = {s: r.probe(self._seen_by(s, images)) for s, r in self._generator_readers.items() if r.taps}
        for link in links:
            link.check(values)

    def _seen_by(self, side: str, images: Tensor) -> Tensor:
        return images if side == 'student' else self._teacher_sees(images)

    # ---- stages -----------------------------------------------------------------------------------------------------

    def begin_stage(self, stage: Stage, batches: Sequence[dict] = (), initialise: bool = True) -> None:
        """See the base class; the whole generator trains, too."""
        super().begin_stage(stage, batches, initialise)
        for part in (self.generator, self.generator_links):
            part.requires_grad_(True)

    @property
    def optimizer_parts(self) -> dict[str, nn.Module]:
        """dict[str, nn.Module]: What trains with an optimiser of its own, by the name that the config gives it."""
        student = dict(student=self.student, links=self.links, connectors=self.connectors)
        generator = dict(generator=self.generator, links=self.generator_links)
        return dict(student=nn.ModuleDict(student), generator=nn.ModuleDict(generator))

    @property
    def optimizer_steps(self) -> dict[str, int]:
        """dict[str, int]: How many steps each of these optimisers takes per iteration."""
        return dict(student=self.student_iter, generator=1)

    # ---- steps ------------------------------------------------------------------------------------------------------

    def train_step(self, data: dict | Sequence, optim_wrapper: OptimWrapperDict) -> dict[str, Tensor]:
        """Train both parts by one iteration.

        Args:
            data (dict | Sequence): A batch, of which only the size counts.
            optim_wrapper (OptimWrapperDict): The optimisers ``student`` and ``generator``.

        Returns:
            dict: ``loss`` and the losses of the links of the student's last step, ``loss_generator`` and
            ``loss_generator_<name>`` of the generator's step.
        """
        count = len(data['inputs'] if isinstance(data, Mapping) else data[0])
        shared = None
        if self.share_images:
            with optim_wrapper['generator'].optim_context(self):
                shared = self.draw(count)
        steps = [self._train_generator, self._train_student]
        log: dict[str, Tensor] = {}
        for step in reversed(steps) if self.student_train_first else steps:
            log |= step(count, shared, optim_wrapper)
        return log

    def draw(self, count: int) -> Tensor:
        """Return ``count`` images (N, C, H, W) of the generator.

        The noise is drawn for all processes at once, of which each takes its part: they begin with the same seed.
        """
        rank, processes = get_dist_info()
        noise = torch.randn(count * processes, self.generator.latent_dim)[rank * count : (rank + 1) * count]
        return self.generator(noise.to(device_of(self.generator)))

    def _train_student(self, count: int, shared: Tensor | None, optimizers: OptimWrapperDict) -> dict[str, Tensor]:
        for _ in range(self.student_iter):
            with optimizers['student'].optim_context(self):
                with torch.no_grad():
                    images = self.draw(count) if shared is None else shared.detach()
                total, log = self.parse_losses(self.loss(images, None))
            _update(optimizers['student'], total)
        return {key: value.detach() for key, value in log.items()}

    def _train_generator(self, count: int, shared: Tensor | None, optimizers: OptimWrapperDict) -> dict[str, Tensor]:
        with optimizers['generator'].optim_context(self):
            images = self.draw(count) if shared is None else shared
            total, log = self.parse_losses(self.generator_loss(images))
        _update(optimizers['generator'], total)
        return {key.replace('loss', 'loss_generator', 1): value.detach() for key, value in log.items()}

    def generator_loss(self, images: Tensor) -> dict[str, Tensor]:
        """Return one loss per generator link, ``loss_<name>``; their gradient reaches the images and no network."""
        with _frozen(self.student):
            values = {
                side: reader.read(self._seen_by(side, images), cut=True)[1]
                for side, reader in self._generator_readers.items()
                if reader.taps
            }
        return {f'loss_{link.name}': link(values) for link in self.generator_links}

    def fingerprint(self) -> dict:
        """See the base class."""
        return super().fingerprint() | dict(generator=self._own_cfg)


@MODELS.register_module()
class DAFLDataFreeDistillation(DataFreeDistillation):
    """DAFL (Chen et al., ICCV 2019), under MMRazor's name: both steps see the same images.

    Args:
        **kwargs: See :class:`DataFreeDistillation`; ``share_images`` defaults to True.
    """

    def __init__(self, student: dict | str | nn.Module, share_images: bool = True, **kwargs) -> None:
        super().__init__(student, share_images=share_images, **kwargs)


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Let no gradient reach the network's parameters meanwhile."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def _update(optimizer: OptimWrapper, loss: Tensor) -> None:
    """Do as ``optimizer.update_params(loss)``, with the gradients averaged over all processes."""
    optimizer.backward(optimizer.scale_loss(loss))
    if optimizer.should_update():
        trained = [parameter for group in optimizer.param_groups for parameter in group['params']]
        all_reduce_params((p.grad for p in trained if p.grad is not None), op='mean')
        optimizer.step()
        optimizer.zero_grad()
