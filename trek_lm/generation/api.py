"""From a checkpoint to lines of text; needs neither Lightning nor Hydra.

lm = CharLM.load("outputs/.../checkpoints/best.ckpt")
lm.generate(speaker="KIRK", n=5, seed=1)
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, TypeAdapter
from torch import nn

from trek_lm.data.charset import Charset
from trek_lm.errors import UserError
from trek_lm.files import expanded
from trek_lm.generation.decoding import Decoded, decode, stream
from trek_lm.generation.request import Request
from trek_lm.generation.sampling import Rules
from trek_lm.generation.scoring import Score, score
from trek_lm.models.char_lm import RecurrentLM
from trek_lm.models.load_checkpoint import model_of, read_checkpoint

FORMAT = 4  # of `CharLM.metadata`; raised when an older reader could not read them
Lines = Annotated[int, Field(strict=True, ge=1, lt=2**53)]  # of a speaker
SPEAKERS = TypeAdapter(dict[Annotated[str, Field(strict=True, min_length=1)], Lines])


class CharLM:
    """A trained model with its characters and speakers: what sampling needs."""

    def __init__(self, model: RecurrentLM, charset: Charset, speakers: Mapping[str, int]) -> None:
        """`speakers`: how many lines each has in the corpus."""
        self.model = model
        self.charset = charset
        self.speakers = dict(speakers)

    @classmethod
    def load(cls, path: str | Path) -> "CharLM":
        """Reads a checkpoint as data: no code in it is run, no class that it names is made.

        Raises UserError for a file that is missing, unreadable or not one of trek-lm's.
        """
        path = expanded(path)
        checkpoint = read_checkpoint(path)
        try:
            metadata = checkpoint["trek_lm"]
            made = metadata["format"]
            if type(made) is not int or made < 1:
                raise TypeError("format")
            if made > FORMAT:
                raise UserError(f"{path}: from a newer trek-lm (format {made}): update this one")
            spec = dict(metadata["model"])
            if made == 2 and spec["ngrams"]:
                raise UserError(f"{path}: its n-grams are of an earlier trek-lm: train it again")
            if made < 4:
                spec["vocab_size"] = spec.pop("symbols")
            found = checkpoint["state_dict"].items()
            weights = {n.removeprefix("model."): w for n, w in found if n.startswith("model.")}
            model = model_of(spec, weights, path)
            charset = Charset(metadata["charset"])
            if len(charset) != model.settings.vocab_size:
                raise UserError(f"{path}: its model is not one of so many characters as it names")
            return cls(model.eval(), charset, SPEAKERS.validate_python(metadata["speakers"]))
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise UserError(f"{path}: not a checkpoint of trek-lm") from error

    def metadata(self) -> dict[str, Any]:
        """What a checkpoint holds besides weights: plain numbers, strings and dicts of them."""
        return {
            "format": FORMAT,
            "model": self.model.spec,
            "charset": self.charset.symbols,
            "speakers": self.speakers,
        }

    def generate(self, **options: Any) -> list[str]:
        """Lines as `Request` describes them: `generate(speaker="KIRK", n=5, temperature=0.7)`.

        Each begins with a speaker's label, the prompt, or both, and ends at its newline or after
        `max_chars` characters; a model of plain text, without speakers, writes `max_chars`
        characters over the lines' ends. The text of a line depends on the seed and its number
        alone, not on how many are asked for; on another machine roundings may tip a draw.

        Raises UserError for an unknown speaker, a prompt with characters outside the charset,
        and values out of range.
        """
        return [line.text for line in self.lines(**options)]

    def lines(self, **options: Any) -> Iterator["Generated"]:
        """The same with what is known of each, in order, each as soon as it is done."""
        request = Request(**options)
        starts = request.starts(self.charset, self.speakers)
        return self._in_order(request, starts, decode(*self._given(request, starts)))

    def stream(self, **options: Any) -> Iterator[str]:
        """The lines of `generate` one after the other: its start, then character by character.

        Joined they are the lines, each with a newline at its end.
        """
        request = Request(**options)
        starts = request.starts(self.charset, self.speakers)
        return self._pieces(zip(starts, stream(*self._given(request, starts)), strict=True))

    def score(self, text: str) -> Score:
        """How likely the model finds a text, such as "SPOCK: Fascinating."."""
        return self.scores([text])[0]

    def scores(self, texts: Sequence[str]) -> list[Score]:
        """The same for many texts, each by itself."""
        return score(self.model, self.charset, texts, lines=bool(self.speakers))

    @torch.inference_mode()
    def teacher_forced(self, line: str) -> str:
        """The likeliest character after each true prefix of a line, its first character given.

        It is one longer than the line: the last character stands where the newline should.
        """
        ids = self.charset.encode(line).long().to(self.model.embedding.weight.device)
        if not len(ids):
            return ""
        with evaluating(self.model):
            logits, _ = self.model(ids[:, None])  # (N, 1, V)
        return self.charset.decode(ids[:1]) + self.charset.decode(logits[:, 0].argmax(-1))

    def speaker_of(self, text: str) -> str | None:
        """Who speaks a line, of those in the corpus."""
        name, colon, _ = text.partition(":")
        return name if colon and name in self.speakers else None

    def _given(self, request: Request, starts: list[str]) -> tuple[RecurrentLM, list[bytes], Rules]:
        """What `decode` and `stream` take."""
        # Without a start a line is what follows another's end.
        ids = [bytes(self.charset.encode(start or "\n").tolist()) for start in starts]
        ends = (self.charset.newline_id if self.speakers else None, self.charset.unknown_id)
        return self.model, ids, Rules(request, request.seed, request.max_chars, *ends)

    def _pieces(self, lines: Iterable[tuple[str, Iterator[int]]]) -> Iterator[str]:
        for start, ids in lines:
            yield start
            for symbol in map(self.charset.symbols.__getitem__, ids):
                if symbol != "\n" or not self.speakers:
                    yield symbol
            yield "\n"

    def _in_order(
        self, request: Request, starts: list[str], lines: Iterator[Decoded]
    ) -> Iterator["Generated"]:
        """Lines by their number, each as soon as those before it are there."""
        early: dict[int, Decoded] = {}
        for number, start in enumerate(starts):
            while number not in early:
                line = next(lines)
                early[line.number] = line
            line = early.pop(number)
            text = start + self.charset.decode(line.ids[-line.drawn :])
            if self.speakers:
                text = text.removesuffix("\n")
            speaker = self.speaker_of(text)
            yield Generated(text, speaker, start, number, line.drawn, line.log_prob, request)


@dataclass(frozen=True)
class Generated:
    """A line, and what is known of it."""

    text: str
    speaker: str | None
    start: str  # what it was given to begin with
    number: int  # among those of its request
    drawn: int  # characters after the start, its newline among them
    log_prob: float  # of those, by the model's own probabilities (temperature 1), in nats
    request: Request

    @property
    def bits_per_char(self) -> float:
        """How surprising the model finds what it wrote."""
        return -self.log_prob / math.log(2) / self.drawn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model without dropout meanwhile."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
