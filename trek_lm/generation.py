"""From a checkpoint to lines of text; needs neither Lightning nor Hydra.

lm = CharLM.load("outputs/.../checkpoints/best.ckpt")
lm.generate(speaker="KIRK", n=5, seed=1)
"""

import difflib
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trek_lm.data.charset import Charset
from trek_lm.errors import UserError
from trek_lm.models.char_lm import RecurrentLM
from trek_lm.models.recurrent import State, stack

FORMAT = 1  # of `CharLM.facts`; raised when an older reader could not read them


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
        path = Path(path).expanduser()
        checkpoint = read_checkpoint(path)
        try:
            facts = checkpoint["trek_lm"]
            if facts["format"] > FORMAT:
                raise UserError(f"{path}: from a newer trek-lm (format {facts['format']})")
            model = RecurrentLM(**facts["model"])
            weights = {
                name.removeprefix("model."): tensor
                for name, tensor in checkpoint["state_dict"].items()
                if name.startswith("model.")
            }
            model.load_state_dict(weights)
            return cls(model.eval(), Charset(facts["charset"]), facts["speakers"])
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise UserError(f"{path}: not a checkpoint of trek-lm") from error

    def facts(self) -> dict[str, Any]:
        """What a checkpoint holds besides weights: plain numbers, strings and dicts of them."""
        return {
            "format": FORMAT,
            "model": self.model.spec,
            "charset": self.charset.symbols,
            "speakers": self.speakers,
        }

    def generate(
        self,
        *,
        speaker: str | Sequence[str] | None = None,
        prompt: str | None = None,
        n: int = 10,
        max_chars: int = 500,
        temperature: float = 0.5,
        seed: int | None = None,
    ) -> list[str]:
        """Lines, `n` of them, each begun with a speaker's label, the prompt, or both.

        Several speakers take turns; without speaker and prompt they are drawn as often as they
        speak in the corpus. A line ends at its newline, or after `max_chars` characters; a model
        of plain text, without speakers, writes `max_chars` characters over the lines' ends. The
        text depends on the seed and its number alone, not on how many are asked for.

        Raises UserError for an unknown speaker, a prompt with characters outside the charset,
        and values out of range.
        """
        _check_range(n=n, max_chars=max_chars, temperature=temperature, seed=seed)
        seed = random.randrange(2**31) if seed is None else seed
        starts = [""] * n
        if speaker is not None or (prompt is None and self.speakers):
            starts = [f"{name}: " for name in self._cast(speaker, n, seed)]
        if prompt is not None:
            self._check_prompt(prompt)
            starts = [start + prompt for start in starts]
        noise = torch.stack([_uniform(seed, number, max_chars) for number in range(n)], dim=1)
        with evaluating(self.model):
            ends = self._continue(starts, noise, temperature)
        return [
            self.charset.normalise(start) + end for start, end in zip(starts, ends, strict=True)
        ]

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

    def _cast(self, speaker: str | Sequence[str] | None, n: int, seed: int) -> list[str]:
        """Who speaks each of n lines."""
        if not self.speakers:
            raise UserError(f"speaker={speaker}: this model was trained on text without speakers")
        if speaker is None:
            weights = list(self.speakers.values())
            return [
                random.Random(f"speaker {seed} {number}").choices(list(self.speakers), weights)[0]
                for number in range(n)
            ]
        given = [speaker] if isinstance(speaker, str) else speaker
        names = [self._known(str(name)) for name in given]
        if not names:
            raise UserError("speaker=[] is empty: name one, or leave speaker away")
        return [names[number % len(names)] for number in range(n)]

    def _known(self, name: str) -> str:
        """The speaker of that name, in any case; raises UserError with near ones."""
        if name.upper() in self.speakers:
            return name.upper()
        near = difflib.get_close_matches(name.upper(), self.speakers, n=3, cutoff=0.5)
        often = sorted(self.speakers, key=lambda speaker: -self.speakers[speaker])[:3]
        hint = f"near: {', '.join(near)}" if near else f"those who speak most: {', '.join(often)}"
        raise UserError(f"speaker={name}: not in the corpus; {hint}")

    def _check_prompt(self, prompt: str) -> None:
        if not self.charset.normalise(prompt) and not self.charset.missing(prompt):
            raise UserError("prompt= is empty: give the start of a line, or leave prompt away")
        if outside := self.charset.missing(prompt):
            position, symbol = outside[0]
            raise UserError(
                f"prompt: {symbol!r} at position {position + 1} is not a character of this model"
            )

    @torch.inference_mode()
    def _continue(self, starts: list[str], noise: Tensor, temperature: float) -> list[str]:
        """Text after each start up to its newline; noise: uniform in [0, 1), `(max_chars, n)`."""
        logits, state = self._read_starts(starts)
        newline = self.charset.newline_id
        written: list[Tensor] = []
        ended = torch.zeros(len(starts), dtype=torch.bool, device=logits.device)
        for uniform in noise.to(logits.device):
            ids = self._pick(logits, uniform, temperature)  # (n,)
            written.append(ids)
            ended |= ids == newline
            if ended.all() and self.speakers:
                break
            logits, state = self.model(ids[None], state)
            logits = logits[0]
        texts = [self.charset.decode(ids) for ids in torch.stack(written, dim=1).tolist()]
        return [text.partition("\n")[0] for text in texts] if self.speakers else texts

    def _read_starts(self, starts: list[str]) -> tuple[Tensor, State]:
        """Logits `(n, V)` and state after each start; one that stands twice is read once."""
        device = self.model.embedding.weight.device
        results = {
            text: self.model(self.charset.encode(text or "\n").long().to(device)[:, None])
            for text in dict.fromkeys(starts)
        }
        logits = torch.cat([results[text][0][-1] for text in starts])
        return logits, stack([results[text][1] for text in starts])

    def _pick(self, logits: Tensor, uniform: Tensor, temperature: float) -> Tensor:
        """Draws by inverting the cumulative distribution: the same noise, the same text."""
        scores = logits.double() / temperature
        if self.charset.unknown_id is not None:
            scores[:, self.charset.unknown_id] = -torch.inf
        cumulative = scores.softmax(-1).cumsum(-1)  # (n, V)
        return torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)[
            :, 0
        ].clamp(max=len(self.charset) - 1)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model without dropout meanwhile."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _uniform(seed: int, number: int, length: int) -> Tensor:
    generator = torch.Generator().manual_seed((seed * 1_000_003 + number) % 2**32)
    return torch.rand(length, generator=generator, dtype=torch.float64)


def _check_range(*, n: int, max_chars: int, temperature: float, seed: int | None) -> None:
    for name, value in (("n", n), ("max_chars", max_chars)):
        if not isinstance(value, int) or value < 1:
            raise UserError(f"{name}={value}: must be a whole number above 0")
    if not isinstance(temperature, int | float) or not 0 < temperature < float("inf"):
        raise UserError(f"temperature={temperature}: must be a number above 0")
    if seed is not None and not (isinstance(seed, int) and 0 <= seed < 2**32):
        raise UserError(f"seed={seed}: must be a whole number from 0 to {2**32 - 1}")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content, as data; raises UserError for a file that isn't one."""
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint file")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # foreign bytes, read as a pickle, raise whatever they hit on
        raise UserError(f"{path}: not a checkpoint (it cannot be read as one)") from error
    if not isinstance(checkpoint, dict):
        raise UserError(f"{path}: not a checkpoint of trek-lm")
    return checkpoint
