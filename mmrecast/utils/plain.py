"""Plain data: what JSON has a form for, and tuples."""


def is_plain(value: object) -> bool:
    """Tell whether it is of dicts, lists, tuples, text, numbers, bool and None alone.

    What is can be compared, walked through and printed: a tensor, say, gives no answer of yes or no.
    """
    if isinstance(value, dict):
        return all(map(is_plain, (*value, *value.values())))
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return isinstance(value, str | int | float | None)
