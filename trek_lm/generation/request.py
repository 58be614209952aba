"""What is asked of a model, and the text that each line then begins with."""

import difflib
import random
from collections.abc import Iterable, Mapping
from typing import Annotated

import numpy as np
from pydantic import Field

from trek_lm.data.charset import Charset
from trek_lm.errors import UserError
from trek_lm.generation.sampling import Sampling, uniform
from trek_lm.settings import Seed, settings

MOST = 10_000_000  # lines, or characters of one: what memory holds


@settings()
class Request(Sampling):
    """Lines to be written; raises UserError that names the value for one out of range."""

    # Several take turns; None: as often as they speak.
    speaker: str | Annotated[list[str], Field(strict=False)] | None = None
    prompt: str | None = None  # the start of every line, after the speaker's label if both are
    n: Annotated[int, Field(ge=1, le=MOST)] = 10
    max_chars: Annotated[int, Field(ge=1, le=MOST)] = 500  # after the start; there a line is cut
    seed: Seed = Field(default_factory=lambda: random.randrange(2**32))
    force: bool = False  # takes speakers that the corpus hasn't

    def starts(self, charset: Charset, speakers: Mapping[str, int]) -> list[str]:
        """What each line begins with; `speakers`: how many lines each has in the corpus.

        Raises UserError for an unknown speaker and for text with characters outside the charset.
        """
        starts = [""] * self.n
        if self.speaker is not None or (self.prompt is None and speakers):
            starts = [f"{name}: " for name in self._cast(charset, speakers)]
        if self.prompt is not None:
            check_text("prompt", self.prompt, charset)
            starts = [start + self.prompt for start in starts]
        return [charset.normalise(start) for start in starts]

    def _cast(self, charset: Charset, speakers: Mapping[str, int]) -> list[str]:
        """Who speaks each line."""
        if not speakers and not self.force:
            raise UserError(
                f"speaker={self.speaker}: this model was trained on text without speakers"
            )
        if self.speaker is None:
            cumulative = np.cumsum(list(speakers.values()))
            # Their noise stands before that of a line's characters.
            noise = uniform(self.seed, np.arange(self.n), -1)
            drawn = np.searchsorted(cumulative, noise * cumulative[-1], side="right")
            names = list(speakers)
            return [names[number] for number in drawn]
        given = [self.speaker] if isinstance(self.speaker, str) else self.speaker
        cast = [self._known(name, charset, speakers) for name in given]
        if not cast:
            raise UserError("speaker=[] is empty: name one, or leave speaker away")
        return [cast[number % len(cast)] for number in range(self.n)]

    def _known(self, name: str, charset: Charset, speakers: Mapping[str, int]) -> str:
        """The speaker of that name, in any case; raises UserError with near ones."""
        for known in (name.upper(), charset.normalise(name.upper())):
            if known in speakers:
                return known
        if self.force:
            check_text("speaker", name, charset)
            return name
        if "," in name:
            raise UserError(f"speaker={name}: for several put them in brackets, [{name}]")
        near = near_speakers(name, speakers)
        often = sorted(speakers, key=lambda speaker: -speakers[speaker])[:3]
        hint = f"near: {', '.join(near)}" if near else f"those who speak most: {', '.join(often)}"
        raise UserError(f"speaker={name}: not in the corpus; {hint}; force=true takes any name")


def near_speakers(name: str, speakers: Iterable[str]) -> list[str]:
    """Up to three speakers with a name like that."""
    return difflib.get_close_matches(name.upper(), speakers, n=3, cutoff=0.5)


def check_text(key: str, text: str, charset: Charset) -> None:
    """Raises UserError unless a charset has something of the text, and all of it."""
    if outside := charset.missing(text):
        at, symbol = outside[0]
        raise UserError(f"{key}: {symbol!r} at position {at + 1} is not a character of this model")
    if not charset.normalise(text):
        raise UserError(f"{key}= is empty: give some text, or leave {key} away")
