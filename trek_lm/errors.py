"""The one exception that stands for a mistake a user can make."""


class UserError(Exception):
    """Something the user can put right; its text is one line that says what, where and how.

    The entry points print it without a traceback and leave with exit code 2.
    """
