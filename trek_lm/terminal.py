"""Makes text safe to print: text from files may contain terminal control characters."""

import logging


def count(number: int, noun: str) -> str:
    """`1 line`, `2,000 lines`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """The text with every unprintable character but newline and tab replaced by U+FFFD."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )


class PrintableFormatter(logging.Formatter):
    """Formats log lines, which may contain file names, speaker labels and generated text."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))
