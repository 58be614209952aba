"""Exceptions that stand for what a user can put right."""


class UserError(Exception):
    """Something the user can put right; its text is one line that says what, where and how.

    The entry points print it without a traceback and leave with exit code 2.
    """


class DivergedError(UserError):
    """The loss went where no training leads back from."""
