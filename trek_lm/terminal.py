"""Text for a terminal: that of others may hold characters which it takes for orders."""

import logging


def count(number: int, noun: str) -> str:
    """`1 line`, `2,000 lines`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """Text without what would steer a terminal."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )


class PrintableFormatter(logging.Formatter):
    """A log's line: in it may stand names of files, labels, and what a model writes."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))
