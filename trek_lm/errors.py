"""Exceptions that stand for what a user can put right, and checks of values that raise them."""

import sys
from math import inf


class UserError(Exception):
    """Something the user can put right; its text is one line that says what, where and how.

    The entry points print it without a traceback and leave with exit code 2.
    """


class DivergedError(UserError):
    """The loss went where no training leads back from."""


def check_number(
    name: str, value: object, low: float, high: float, what: str, *, closed: bool = False
) -> None:
    """Raises UserError unless low < value < high, or value <= high where that end is closed."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not (low < value < high or (closed and value == high))
        or abs(value) > sys.float_info.max  # 1 and 400 zeros, a whole number
    ):
        raise UserError(f"{name}={value}: must be {what}")


def check_whole(name: str, value: object, low: int, high: float = inf, *, other: str = "") -> None:
    """Raises UserError unless the value is a whole number in that range, ends included.

    `other`: what else may be given, for the message.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        end = ("" if high == inf else f" to {high}") + (f" or {other}" if other else "")
        raise UserError(f"{name}={value}: must be a whole number from {low}{end}")


def check_seed(name: str, value: object) -> None:
    """Raises UserError unless the value is one that every generator takes."""
    check_whole(name, value, 0, 2**32 - 1)


def check_flag(name: str, value: object) -> None:
    """Raises UserError unless the value is true or false."""
    if not isinstance(value, bool):
        raise UserError(f"{name}={value}: must be true or false")
