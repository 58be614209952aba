"""Loads a checkpoint, generates and scores text; needs neither Lightning nor Hydra.

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

FORMAT = 4  # version of `CharLM.metadata`; increased when older code can't read it
Lines = Annotated[int, Field(strict=True, ge=1, lt=2**53)]  # number of lines
SPEAKERS = TypeAdapter(dict[Annotated[str, Field(strict=True, min_length=1)], Lines])


class CharLM:
    """A trained model with its charset and speakers."""

    def __init__(self, model: RecurrentLM, charset: Charset, speakers: Mapping[str, int]) -> None:
        """`speakers`: the number of lines of each in the corpus."""
        self.model = model
        self.charset = charset
        self.speakers = dict(speakers)

    @classmethod
    def load(cls, path: str | Path) -> "CharLM":
        """Loads a checkpoint as data: runs no code in it and instantiates no class that it names.

        Raises UserError for a file that is missing, unreadable or not a checkpoint of trek-lm.
        """
        path = expanded(path)
        checkpoint = read_checkpoint(path)
        try:
            metadata = checkpoint["trek_lm"]
            version = metadata["format"]
            if type(version) is not int or version < 1:
                raise TypeError("format")
            if version > FORMAT:
                raise UserError(f"{path}: from a newer trek-lm (format {version}); update trek-lm")
            spec = dict(metadata["model"])
            if version == 2 and spec["ngrams"]:
                raise UserError(f"{path}: its n-grams are of an older trek-lm; train it again")
            if version < 4:
                spec["vocab_size"] = spec.pop("symbols")
            found = checkpoint["state_dict"].items()
            weights = {n.removeprefix("model."): w for n, w in found if n.startswith("model.")}
            model = model_of(spec, weights, path)
            charset = Charset(metadata["charset"])
            if len(charset) != model.settings.vocab_size:
                raise UserError(f"{path}: damaged; model and charset differ in size")
            return cls(model.eval(), charset, SPEAKERS.validate_python(metadata["speakers"]))
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise UserError(f"{path}: not a checkpoint of trek-lm") from error

    def metadata(self) -> dict[str, Any]:
        """The content of a checkpoint besides weights: plain numbers, strings and dicts."""
        return {
            "format": FORMAT,
            "model": self.model.spec,
            "charset": self.charset.characters,
            "speakers": self.speakers,
        }

    def generate(self, **options: Any) -> list[str]:
        """Generates lines; the options are those of `Request`: `generate(speaker="KIRK", n=5)`.

        A line begins with a speaker's label, the prompt, or both. It ends at its newline or after
        `max_chars` characters; a model of plain text, without speakers, always generates
        `max_chars` characters, newlines among them. The text of a line depends only on the seed
        and the number of the line, not on `n`; on another machine rounding may change a draw.

        Raises UserError for an unknown speaker, a prompt with characters outside the charset,
        and values out of range.
        """
        return [line.text for line in self.lines(**options)]

    def lines(self, **options: Any) -> Iterator["Generated"]:
        """Yields the same lines in order, with log-probabilities, each as soon as it is done."""
        request = Request(**options)
        starts = request.starts(self.charset, self.speakers)
        return self._in_order(request, starts, decode(*self._args(request, starts)))

    def stream(self, **options: Any) -> Iterator[str]:
        """Yields the lines of `generate` in pieces: the start of a line, then each character.

        The pieces joined are the lines, each with a newline at its end.
        """
        request = Request(**options)
        starts = request.starts(self.charset, self.speakers)
        return self._pieces(zip(starts, stream(*self._args(request, starts)), strict=True))

    def score(self, text: str) -> Score:
        """How likely the model finds a text, such as "SPOCK: Fascinating."."""
        return self.scores([text])[0]

    def scores(self, texts: Sequence[str]) -> list[Score]:
        """The scores of many texts, each from a zero state."""
        return score(self.model, self.charset, texts, lines=bool(self.speakers))

    @torch.inference_mode()
    def teacher_forced(self, line: str) -> str:
        """The likeliest character after each true prefix of a line; the first character is given.

        The result is one longer than the line: its last character is the prediction after the line.
        """
        ids = self.charset.encode(line).long().to(self.model.embedding.weight.device)
        if not len(ids):
            return ""
        with evaluating(self.model):
            logits, _ = self.model(ids[:, None])  # (N, 1, V)
        return self.charset.decode(ids[:1]) + self.charset.decode(logits[:, 0].argmax(-1))

    def speaker_of(self, text: str) -> str | None:
        """The speaker of a line; None if not in the corpus."""
        name, colon, _ = text.partition(":")
        return name if colon and name in self.speakers else None

    def _args(self, request: Request, starts: list[str]) -> tuple[RecurrentLM, list[bytes], Rules]:
        """The arguments of `decode` and `stream`."""
        # A line without a start follows a newline, as in the training text.
        ids = [bytes(self.charset.encode(start or "\n").tolist()) for start in starts]
        ends = (self.charset.newline_id if self.speakers else None, self.charset.unknown_id)
        return self.model, ids, Rules(request, request.seed, request.max_chars, *ends)

    def _pieces(self, lines: Iterable[tuple[str, Iterator[int]]]) -> Iterator[str]:
        for start, ids in lines:
            yield start
            for character in map(self.charset.characters.__getitem__, ids):
                if character != "\n" or not self.speakers:
                    yield character
            yield "\n"

    def _in_order(
        self, request: Request, starts: list[str], lines: Iterator[Decoded]
    ) -> Iterator["Generated"]:
        """Yields lines by number, each as soon as all before it are done."""
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
    """A generated line."""

    text: str
    speaker: str | None
    start: str  # the given label and prompt
    number: int  # index among the lines of the request
    drawn: int  # number of characters after the start, with the newline
    log_prob: float  # of the drawn characters, by the model at temperature 1, in nats
    request: Request

    @property
    def bits_per_char(self) -> float:
        """Mean bits per drawn character."""
        return -self.log_prob / math.log(2) / self.drawn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Puts the model in eval mode inside the `with` block."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
