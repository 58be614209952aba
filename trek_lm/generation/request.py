"""The options for generating lines, and the text that each line begins with."""

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

MOST = 10_000_000  # limit of lines, and of characters per line: memory


@settings()
class Request(Sampling):
    """Options for generating lines; raises UserError that names a value out of range."""

    # Those in a list take turns; None: drawn in proportion to their lines.
    speaker: str | Annotated[list[str], Field(strict=False)] | None = None
    prompt: str | None = None  # the start of every line, after the label of `speaker`
    n: Annotated[int, Field(ge=1, le=MOST)] = 10
    max_chars: Annotated[int, Field(ge=1, le=MOST)] = 500  # drawn at most per line
    seed: Seed = Field(default_factory=lambda: random.randrange(2**32))
    force: bool = False  # accepts speakers that are not in the corpus

    def starts(self, charset: Charset, speakers: Mapping[str, int]) -> list[str]:
        """The start of each line; `speakers`: the number of lines of each in the corpus.

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
        """The speaker of each line."""
        if not speakers and not self.force:
            raise UserError(f"speaker={self.speaker}: this model has no speakers; use prompt")
        if self.speaker is None:
            cumulative = np.cumsum(list(speakers.values()))
            # Position -1, because a line's characters use the noise from 0 on.
            noise = uniform(self.seed, np.arange(self.n), -1)
            drawn = np.searchsorted(cumulative, noise * cumulative[-1], side="right")
            names = list(speakers)
            return [names[number] for number in drawn]
        given = [self.speaker] if isinstance(self.speaker, str) else self.speaker
        cast = [self._known(name, charset, speakers) for name in given]
        if not cast:
            raise UserError("speaker=[] is empty; name a speaker, or remove speaker")
        return [cast[number % len(cast)] for number in range(self.n)]

    def _known(self, name: str, charset: Charset, speakers: Mapping[str, int]) -> str:
        """The speaker with this name, in any case; raises UserError with similar names."""
        for known in (name.upper(), charset.normalise(name.upper())):
            if known in speakers:
                return known
        if self.force:
            check_text("speaker", name, charset)
            return name
        if "," in name:
            raise UserError(f"speaker={name}: for several speakers use brackets, speaker=[{name}]")
        similar = similar_speakers(name, speakers)
        often = sorted(speakers, key=lambda speaker: -speakers[speaker])[:3]
        hint = f"similar: {', '.join(similar)}" if similar else f"most frequent: {', '.join(often)}"
        raise UserError(f"speaker={name}: not in the corpus; {hint}; force=true accepts any name")


def similar_speakers(name: str, speakers: Iterable[str]) -> list[str]:
    """Up to three speakers with similar names."""
    return difflib.get_close_matches(name.upper(), speakers, n=3, cutoff=0.5)


def check_text(key: str, text: str, charset: Charset) -> None:
    """Raises UserError if a text is empty or has characters outside the charset."""
    if outside := charset.missing(text):
        at, character = outside[0]
        raise UserError(
            f"{key}: {character!r} at position {at + 1} is not a character of this model"
        )
    if not charset.normalise(text):
        raise UserError(f"{key}= is empty; give some text, or remove {key}")
