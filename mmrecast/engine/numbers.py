"""What came first where a run's numbers failed, and what to try then."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from mmrecast.engine.batches import batch_at, evenly_spaced
from mmrecast.engine.disk import last_one
from mmrecast.utils.finite import first_not_finite, not_finite_samples, weights_of

CALMER = 'lower the rate, clip gradients (optim_wrapper: clip_grad=dict(max_norm=1.0))'
NO_AMP = 'train without AMP'
LAST_GOOD = '; the last good state is {}'


def stop_line(runner: Any, said: str, iteration: int | None = None) -> str:
    """Return the line with which a run stops.

    Args:
        runner (StagedRunner): The runner.
        said (str): What failed and what to try.
        iteration (int, optional): Iteration of the stage, from 1. Defaults to None: where the loop stands.
    """
    loop = runner.train_loop
    where = loop.position if iteration is None else loop.position_at(iteration)
    return f'{where}: {said}{last_one(runner.work_dir, LAST_GOOD)}'


def what_failed(runner: Any, iteration: int, kind: str, name: str) -> str:
    """Say what was not finite first, and what to try: the images, what the teacher makes of them, a loss or a gradient.

    Args:
        runner (StagedRunner): The runner; it is about to stop: its epoch is set to that of the iteration.
        iteration (int): Iteration of the stage, from 0.
        kind (str): 'loss' or 'gradient'.
        name (str): Which losses.
    """
    images, said = _met_again(runner, iteration)
    if said is not None:
        return said
    amp = _mixed(runner)
    tries = [CALMER, *([NO_AMP] if amp else []), *(['look for NaN in the images'] if images is None else [])]
    if kind == 'gradient':
        tries += ['look for a root or a logarithm at 0 in the loss']
        return f'a gradient is not finite, though the loss is: {" or ".join([", ".join(tries[:-1]), tries[-1]])}'
    before = [value for value in _losses_before(runner, iteration) if math.isfinite(value)]
    grown = f' (the losses before it: {", ".join(f"{value:.4g}" for value in before)})' if before else ''
    tries += ['normalise the loss (RelativeMSELoss)']
    return f'{name} is not finite{grown}: {" or ".join([", ".join(tries[:-1]), tries[-1]])}'


def _met_again(runner: Any, iteration: int) -> tuple[torch.Tensor | None, str | None]:
    """Return the images of an iteration, None where they do not come again, and what is wrong with them or the teacher.

    Whatever goes wrong here must not hide that the run has to stop.
    """
    loop, images = runner.train_loop, None
    with suppress(Exception):
        epoch, number = divmod(iteration, len(loop.dataloader))
        epoch += loop.epoch - loop.stage_epoch
        again = batch_at(loop.dataloader, epoch, number)
        if again is None:
            return None, None
        preprocessor = loop.model.data_preprocessor
        if hasattr(preprocessor, 'set_epoch'):
            preprocessor.set_epoch(epoch)
        indices, data = again
        images = preprocessor(data, True)['inputs']
        wrong = [indices[i] for i in not_finite_samples(images)]
        if wrong:
            return images, f'NaN or infinity in the images of training {_samples(wrong)}: mend them or leave them out'
        if loop.model.teacher is not None:
            with torch.no_grad(), runner.optim_wrapper.optim_context(runner.model):
                output = loop.model.teacher(images)
            if not output.isfinite().all():
                advice = NO_AMP if _mixed(runner) else 'look at its weights and at the mean and std of its images'
                return images, f"the teacher's output is not finite, for images that are: {advice}"
    return images, None


def check_weights(runner: Any) -> None:
    """Refuse to keep weights that are not finite.

    Raises:
        FloatingPointError: Some are; the message names the first.
    """
    name = first_not_finite(weights_of(runner.bare_model))
    if name is not None:
        tries = f'{CALMER}{f" or {NO_AMP}" if _mixed(runner) else ""}'
        raise FloatingPointError(stop_line(runner, f'weights are not finite, the first of them {name}: {tries}'))


@contextmanager
def starting(runner: Any) -> Iterator[None]:
    """Say of a start that meets numbers that are not finite where it stands, and which images are to blame if any.

    Raises:
        FloatingPointError: A start met such numbers.
    """
    try:
        yield
    except FloatingPointError as error:
        loop = runner.train_loop
        said = _spoilt(loop.model, loop.dataloader, loop.model.start_images_of(loop.stage), 'training')
        raise FloatingPointError(stop_line(runner, said or str(error))) from error


def check_start(runner: Any, error: float | None) -> None:
    """Refuse a stage's start whose relative error is not finite.

    Raises:
        FloatingPointError: It is not.
    """
    if error is not None and not math.isfinite(error):
        said = _probed(runner) or 'what its start computed is not finite: look at the training images that it reads'
        raise FloatingPointError(stop_line(runner, f'relative error {error} at its start: {said}'))


def check_stage_error(runner: Any, record: dict, diverged: float) -> None:
    """Refuse a finished stage whose relative error is not finite or has grown beyond all measure.

    Args:
        runner (StagedRunner): The runner.
        record (dict): The stage's record.
        diverged (float): How many times the error at its start, or 1 if that was less, is too much.

    Raises:
        FloatingPointError: It is.
    """
    error, start = record['relative_error'], record['relative_error_start']
    if error is None or (math.isfinite(error) and error <= diverged * max(start or 0, 1)):
        return
    loop = runner.train_loop
    where = f'stage {record["index"] + 1}/{len(loop.stages)} {record["name"]}'
    said = None if math.isfinite(error) else _probed(runner)
    said = said or f'it has diverged: {CALMER} or train it for longer'
    begun = '' if start is None else f'{start:.4g} → '
    raise FloatingPointError(
        f'{where}: relative error {begun}{error:.4g}: {said}{last_one(runner.work_dir, LAST_GOOD)}'
    )


def check_images(loader: DataLoader, images: int, position: int, batch: dict, what: str) -> None:
    """Refuse images that are not finite among those looked at before training.

    Args:
        loader (DataLoader): Whose they are.
        images (int): How many are looked at.
        position (int): How many of them came before ``batch``.
        batch (dict): Preprocessed images.
        what (str): The loader's data, for the message.

    Raises:
        ValueError: One is not.
    """
    wrong = not_finite_samples(batch['inputs'])
    if wrong:
        count = min(images, len(loader.dataset))
        indices = [(position + i) * len(loader.dataset) // count for i in wrong]
        raise ValueError(f'NaN or infinity in the images of {what} {_samples(indices)}: mend them or leave them out')


def _probed(runner: Any) -> str | None:
    """Say which of the images on which relative errors are measured is not finite, None where all are."""
    loop = runner.train_loop
    what = 'training' if loop.probe_loader is loop.dataloader else 'validation'
    return _spoilt(loop.model, loop.probe_loader, loop.probe_images, what)


def _spoilt(model: Any, loader: DataLoader, images: int, what: str) -> str | None:
    """Say which of evenly spaced images of a loader are not finite, None where all are or they cannot be numbered."""
    done = 0
    for data in () if isinstance(loader.dataset, IterableDataset) else evenly_spaced(loader, images):
        batch = model.data_preprocessor(data, False)
        try:
            check_images(loader, images, done, batch, what)
        except ValueError as error:
            return str(error)
        done += len(batch['inputs'])
    return None


def _losses_before(runner: Any, iteration: int) -> list[float]:
    """Return up to three losses before ``iteration``, the oldest and the newest among them."""
    buffer = runner.message_hub.log_scalars.get('train/loss')
    values = [] if buffer is None else buffer.data[0]
    behind = runner.train_loop.stage_iter - iteration
    values = [float(value) for value in values[: len(values) - behind]]
    return [values[i] for i in sorted({0, len(values) // 2, len(values) - 1})] if values else []


def _samples(indices: list[int]) -> str:
    shown = ', '.join(map(str, indices[:5])) + (', …' if len(indices) > 5 else '')
    return f'{"sample" if len(indices) == 1 else "samples"} {shown}'


def _mixed(runner: Any) -> bool:
    """Tell whether a run trains in mixed precision."""
    kinds = {
        type(wrapper).__name__ for wrapper in (runner.optim_wrapper, *getattr(runner.optim_wrapper, 'values', list)())
    }
    return bool(kinds & {'AmpOptimWrapper', 'Bf16OptimWrapper'})
