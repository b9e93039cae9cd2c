"""What is kept and said of a run: accuracies, one line per stage."""


def top_of(metrics: dict, k: int = 1) -> float | None:
    """Return the top-``k`` accuracy (%) among an evaluator's metrics, None where there is none."""
    names = (f'top{k}', f'top_{k}', f'top-{k}')
    return next((float(value) for name, value in metrics.items() if name.split('/')[-1] in names), None)


def accuracies(metrics: dict) -> dict[str, float | None]:
    """Return ``top1`` (%) among an evaluator's metrics, None where there is none, and ``top5`` where it is measured."""
    top5 = top_of(metrics, 5)
    return dict(top1=top_of(metrics)) | ({} if top5 is None else dict(top5=top5))


def describe_stage(record: dict, stages: int) -> str:
    """Return one line on a finished stage."""
    parts = [f'stage {record["index"] + 1}/{stages} {record["name"]} done: {record["images"]} images']
    parts.append(f'{record["seconds"]:.1f} s')
    if record['relative_error'] is not None:
        before = '' if record['relative_error_start'] is None else f'{record["relative_error_start"]:.4f} → '
        parts.append(f'relative error {before}{record["relative_error"]:.4f}')
    if record.get('regression'):
        parts.append(f'{record["regression"]} (relative error {record["relative_error_trained"]:.4f} after training)')
    if record['top1'] is not None:
        parts.append(f'top-1 {record["top1"]:.2f} % on {record["val_images"]} images')
    return ', '.join(parts)
