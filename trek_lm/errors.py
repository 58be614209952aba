"""Errors that a user can fix."""


class UserError(Exception):
    """An error that the user can fix; its text is one line: where, what is wrong, what to do.

    The entry points print it without a traceback and exit with code 2.
    """


class DivergedError(UserError):
    """Training diverged."""
