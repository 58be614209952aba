"""Formats lines and scores: coloured on a terminal, plain elsewhere, or as JSON."""

import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

from trek_lm.generation.api import Generated
from trek_lm.generation.scoring import Score
from trek_lm.terminal import printable

# Codes of 12 terminal colours: the plain six before the bright six.
COLOURS = (36, 33, 32, 35, 34, 31, 96, 93, 92, 95, 94, 91)
SURPRISE = 4.0  # bits; characters from here on (probability 1/16) are marked
SIGNS = {" ": "\N{MIDDLE DOT}", "\n": "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}"}
COLUMN = 6  # characters per cell


def is_colourful(stream: TextIO) -> bool:
    """Whether the stream is a terminal with colours (https://no-color.org is respected)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Painter:
    """Formats text by speaker; the 12 speakers with the most lines have distinct colours."""

    def __init__(self, speakers: Mapping[str, int], *, colourful: bool) -> None:
        """`speakers`: the number of lines of each in the corpus."""
        self.colourful = colourful
        ranked = sorted(speakers, key=lambda name: -speakers[name])
        self._colour = {name: COLOURS[n % len(COLOURS)] for n, name in enumerate(ranked)}

    def line(self, text: str) -> str:
        """A line, with its speaker's label in bold."""
        name, colon, rest = text.partition(":")
        if not self.colourful or not colon or name not in self._colour:
            return printable(text)
        colour = self._colour[name]
        return f"\033[1;{colour}m{printable(name)}:\033[22m{printable(rest)}\033[0m"

    def stream(self, pieces: Iterable[str]) -> Iterator[str]:
        """The pieces of `CharLM.stream`."""
        at_start, end = True, "\033[0m" if self.colourful else ""
        for piece in pieces:
            if at_start:  # its colour stays on until the line ends
                yield self.line(piece).removesuffix(end)
            else:
                yield f"{end}\n" if piece == "\n" else printable(piece)
            at_start = piece == "\n"

    def generated(self, line: Generated) -> str:
        """A generated line."""
        return self.line(line.text)

    def scored(self, score: Score, *, show_bits: bool = False) -> str:
        """A score; `show_bits` adds the bits of each character."""
        text = self.line(score.text) if self._colour else f"{len(score.text):,} characters"
        bits = f"\n{self._bits(score)}\n" if show_bits else ""
        return f"{score.bits_per_char:.3f}  {text}{bits}"

    def heading(self, text: str) -> str:
        """Text above or below a block of lines."""
        return f"\033[2m{text}\033[0m" if self.colourful else text

    def _bits(self, score: Score) -> str:
        """The characters of a score with their bits below; surprising ones are marked."""
        characters = score.text + "\n" * (len(score.bits) == len(score.text))
        bits = zip(characters, (None, *score.bits), strict=bool(characters))
        cells = [self._cells(*of_symbol) for of_symbol in bits]
        width = max(1, shutil.get_terminal_size().columns // COLUMN)
        rows = []
        for at in range(0, len(cells), width):
            rows += ["".join(row).rstrip() for row in zip(*cells[at : at + width], strict=True)]
        return "\n".join(rows)

    def _cells(self, character: str, bits: float | None) -> list[str]:
        """A character and the bits below it."""
        cells = [SIGNS.get(character, printable(character)), "" if bits is None else f"{bits:.1f}"]
        if bits is None or bits < SURPRISE:
            return [cell.ljust(COLUMN) for cell in cells]
        if self.colourful:
            return [f"\033[1;31m{cell}\033[0m{' ' * (COLUMN - len(cell))}" for cell in cells]
        return [cells[0].ljust(COLUMN), f"{cells[1]}*".ljust(COLUMN)]


class JsonPainter(Painter):
    """The same for programs: each line or score is a JSON object on one line, without headings."""

    def generated(self, line: Generated) -> str:
        request = line.request
        asked = {"seed": request.seed, "line": line.number, "temperature": request.temperature}
        return json.dumps({"speaker": line.speaker} | _likelihood(line) | asked)

    def scored(self, score: Score, *, show_bits: bool = False) -> str:
        return json.dumps(_likelihood(score) | ({"bits": score.bits} if show_bits else {}))

    def heading(self, text: str) -> str:
        return ""


def _likelihood(of: Generated | Score) -> dict[str, Any]:
    mean = None if math.isnan(of.bits_per_char) else of.bits_per_char
    return {"text": of.text, "log_prob": of.log_prob, "bits_per_char": mean}


PAINTERS = {"text": Painter, "jsonl": JsonPainter}


def summary(scores: Sequence[Score]) -> str:
    """The mean over the characters of all scores."""
    bits = [bit for score in scores for bit in score.bits]
    mean = sum(bits) / len(bits) if bits else float("nan")
    return f"{mean:.3f} bits per character, {len(bits):,} characters in {len(scores):,} lines"
