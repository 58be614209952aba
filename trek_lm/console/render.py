"""How lines and scores look: coloured on a terminal, plain elsewhere, or as JSON."""

import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

from trek_lm.generation.api import Generated
from trek_lm.generation.scoring import Score
from trek_lm.terminal import printable

# Twelve of a terminal's own colours, the plain six before the bright six.
COLOURS = (36, 33, 32, 35, 34, 31, 96, 93, 92, 95, 94, 91)
SURPRISE = 4.0  # bits: less likely than one in sixteen
SIGNS = {" ": "\N{MIDDLE DOT}", "\n": "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}"}
COLUMN = 6


def is_colourful(stream: TextIO) -> bool:
    """Whether colours make sense there (https://no-color.org is heeded)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Painter:
    """Text as it is shown, by speaker; those who speak most have colours of their own."""

    def __init__(self, speakers: Mapping[str, int], *, colourful: bool) -> None:
        """`speakers`: how many lines each has in the corpus."""
        self.colourful = colourful
        ranked = sorted(speakers, key=lambda name: -speakers[name])
        self._colour = {name: COLOURS[n % len(COLOURS)] for n, name in enumerate(ranked)}

    def line(self, text: str) -> str:
        """A line, its speaker's label in bold."""
        name, colon, rest = text.partition(":")
        if not self.colourful or not colon or name not in self._colour:
            return printable(text)
        colour = self._colour[name]
        return f"\033[1;{colour}m{printable(name)}:\033[22m{printable(rest)}\033[0m"

    def stream(self, pieces: Iterable[str]) -> Iterator[str]:
        """Pieces as `CharLM.stream` gives them."""
        begins, end = True, "\033[0m" if self.colourful else ""
        for piece in pieces:
            if begins:  # its colour stays on until the line ends
                yield self.line(piece).removesuffix(end)
            else:
                yield f"{end}\n" if piece == "\n" else printable(piece)
            begins = piece == "\n"

    def generated(self, line: Generated) -> str:
        """A line that a model wrote."""
        return self.line(line.text)

    def scored(self, score: Score, *, show_bits: bool = False) -> str:
        """A score; `show_bits`: of each character, too."""
        text = self.line(score.text) if self._colour else f"{len(score.text):,} characters"
        bits = f"\n{self._bits(score)}\n" if show_bits else ""
        return f"{score.bits_per_char:.3f}  {text}{bits}"

    def heading(self, text: str) -> str:
        """What stands above or below a block of lines."""
        return f"\033[2m{text}\033[0m" if self.colourful else text

    def _bits(self, score: Score) -> str:
        """A score's characters with the bits of each below, those that surprise marked."""
        symbols = score.text + "\n" * (len(score.bits) == len(score.text))
        bits = zip(symbols, (None, *score.bits), strict=bool(symbols))
        cells = [self._cells(*of_symbol) for of_symbol in bits]
        width = max(1, shutil.get_terminal_size().columns // COLUMN)
        rows = []
        for at in range(0, len(cells), width):
            rows += ["".join(row).rstrip() for row in zip(*cells[at : at + width], strict=True)]
        return "\n".join(rows)

    def _cells(self, symbol: str, bits: float | None) -> list[str]:
        """A character, and what stands below it."""
        cells = [SIGNS.get(symbol, printable(symbol)), "" if bits is None else f"{bits:.1f}"]
        if bits is None or bits < SURPRISE:
            return [cell.ljust(COLUMN) for cell in cells]
        if self.colourful:
            return [f"\033[1;31m{cell}\033[0m{' ' * (COLUMN - len(cell))}" for cell in cells]
        return [cells[0].ljust(COLUMN), f"{cells[1]}*".ljust(COLUMN)]


class JsonPainter(Painter):
    """The same for programs: each line or score as JSON on one line, and nothing else."""

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
    """What many scores come to."""
    bits = [bit for score in scores for bit in score.bits]
    mean = sum(bits) / len(bits) if bits else float("nan")
    return f"{mean:.3f} bits per character, {len(bits):,} characters in {len(scores):,} lines"
