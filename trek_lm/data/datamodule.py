"""The LightningDataModule: a source of transcripts becomes batches of three disjoint parts."""

import hashlib
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only

from trek_lm.data.batching import BatchSource, LineBatches, Shard, StreamBatches
from trek_lm.data.charset import MAX_SYMBOLS, Charset, make_charset
from trek_lm.data.corpora import Corpus, Source
from trek_lm.data.encoded import EncodedLines, encode
from trek_lm.data.lines import Episode, Reading
from trek_lm.data.splits import (
    Fractions,
    Parts,
    check,
    cut_at_fractions,
    repeated,
    split_lines,
    texts_of,
)
from trek_lm.errors import UserError, check_seed, check_whole
from trek_lm.terminal import count

log = logging.getLogger(__name__)

PARTS = ("train", "val", "test")
DROPPED = 0.01  # of a corpus: a larger share is warned of


class TranscriptDataModule(pl.LightningDataModule):
    """Reads, splits, encodes and batches one corpus.

    After `setup()`: `charset`, `corpus` (with its report), `speakers` (lines each speaks in the
    corpus, by the name that a model sees), `characters` (predicted in an epoch of each part) and
    `split_sha256` (which lines are in which part).
    """

    corpus: Corpus
    charset: Charset
    speakers: Counter[str]
    characters: dict[str, int]
    split_sha256: str

    def __init__(
        self,
        source: Callable[..., Source],
        *,
        root: str | None = None,
        format: str = "auto",
        labels: str = "capitals",
        series: str | Sequence[str] | None = None,
        split: str = "episode",
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        charset: str = "writeup",
        batching: str = "lines",
        batch_size: int = 32,
        batch_by: str = "lines",
        weigh_by: str = "characters",
        eval_batch_size: int = 128,
        steps: int = 64,
        max_chars: int = 2000,
        seed: int = 0,
        epochs: int | None = None,
    ) -> None:
        """Nothing is read yet.

        `source(root=root)` gives the source, `format`, `labels` and `series` say how it is read
        (`trek_lm.data.formats.registry`). `batch_by`: whether training batches of lines have the
        same number of "lines" or of "characters". `weigh_by`: what counts the same in training, all
        "characters" of an epoch or all its "batches". `steps`: characters of each track in a
        stream batch. `max_chars`: where a longer line is cut. `epochs`: not used here; how many
        suit the corpus, to which `trainer.max_epochs` refers.
        """
        super().__init__()
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("eval_batch_size", eval_batch_size, 1),
            ("steps", steps, 1),
            ("max_chars", max_chars, 2),  # the first of a line is given
        ):
            check_whole(f"data.{name}", value, least, 2**31 - 1)
        check_seed("data.seed", seed)
        for name, chosen, choices in (
            ("batching", batching, ("lines", "stream")),
            ("batch_by", batch_by, ("lines", "characters")),
            ("weigh_by", weigh_by, ("characters", "batches")),
        ):
            if chosen not in choices:
                raise UserError(f"data.{name}={chosen}: choose {' or '.join(choices)}")
        if (batching, batch_by) == ("stream", "characters"):
            raise UserError("data.batch_by=characters: a stream has no lines, leave it away")
        self.source = source(root=root)
        listed = (
            series if isinstance(series, Sequence) and not isinstance(series, str) else [series]
        )
        names = tuple(str(name) for name in listed if name is not None)
        self.reading = Reading(format, labels, names)
        self.split = split
        self.fractions = Fractions(val_fraction, test_fraction)
        check(self.split, self.fractions)
        self.charset_name = charset
        self.batching = batching
        self.batch_size = batch_size
        self.batch_by = batch_by
        self.weigh_by = weigh_by
        self.eval_batch_size = eval_batch_size
        self.steps = steps
        self.max_chars = max_chars
        self.seed = seed
        self._encoded: dict[str, EncodedLines] = {}
        self._training: BatchSource | None = None
        self._resume_at: dict[str, int] | None = None

    def prepare_data(self) -> None:
        if not self._encoded:
            self.source.fetch()

    def setup(self, stage: str | None = None) -> None:
        """Reads and encodes the corpus, once; raises UserError for a corpus that can't serve."""
        if self._encoded:
            return
        self.corpus = self.source.read(self.reading)
        named = self.corpus.report.speakers
        if self.batching == "lines" and not named:
            raise UserError(
                "data.batching=lines needs lines with speakers; for plain text add "
                "data.batching=stream data.split=position"
            )
        episodes = self.corpus.episodes
        if self.batching == "stream" and self.split == "position":
            episodes = cut_at_fractions(episodes, self.fractions)
        parts = split_lines(episodes, self.split, self.fractions, self.seed)
        texts = (episode.text for episode in episodes)
        self.charset = make_charset(self.charset_name, texts_of(episodes, parts.train), texts)
        self.speakers = Counter()
        for name, lines_spoken in named.items():  # one of whom nothing is left keeps the name
            self.speakers[self.charset.normalise(name) or name] += lines_spoken
        lines = encode(episodes, self.charset)
        self._encoded = {name: self._part(lines.take(getattr(parts, name))) for name in PARTS}
        self.characters = {name: self._batches(name).characters for name in PARTS}
        if not self.characters["train"]:
            raise UserError(f"data={self.source.name}: no line has two characters of the charset")
        lines_of_parts = b"|".join(part.numpy().tobytes() for part in parts)
        self.split_sha256 = hashlib.sha256(lines_of_parts).hexdigest()
        self._log_report(episodes, parts)

    def train_dataloader(self) -> BatchSource:
        self._training = self._batches("train", shuffle=True)
        if self._resume_at is not None:
            self._training.load_state_dict(self._resume_at)
        return self._training

    def state_dict(self) -> dict[str, Any]:
        """The corpus, its split, and the place in it.

        Lightning keeps a loader's state too, but reads it back only where nobody has asked for
        the number of batches before.
        """
        batches = None if self._training is None else self._training.state_dict()
        return {
            "corpus_sha256": self.corpus.sha256,
            "split_sha256": self.split_sha256,
            "batches": batches,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._resume_at = state_dict["batches"]

    def val_dataloader(self) -> BatchSource | list[BatchSource]:
        return self._batches("val") if self.has("val") else []

    def test_dataloader(self) -> BatchSource | list[BatchSource]:
        return self._batches("test") if self.has("test") else []

    def has(self, part: str) -> bool:
        """Whether a part has anything to predict."""
        return self.characters[part] > 0

    def random_line(self, part: str, number: int) -> str:
        """A line of a part as the model sees it, without its newline; `number` seeds the draw."""
        lines = self._encoded[part]
        lines = lines.take(lines.lengths > 1)
        chosen = random.Random(f"line {self.seed} {number}").randrange(len(lines.starts))
        ids = lines.take(torch.tensor([chosen])).joined()
        return self.charset.decode(ids).removesuffix("\n")

    def _part(self, lines: EncodedLines) -> EncodedLines:
        if self.batching == "stream":
            return lines
        if cut := int((lines.lengths > self.max_chars).sum()):
            log.warning("%s are cut to data.max_chars=%d", count(cut, "line"), self.max_chars)
        return lines.cut(self.max_chars)

    def _batches(self, part: str, shuffle: bool = False) -> LineBatches | StreamBatches:
        lines = self._encoded[part]
        size = self.batch_size if shuffle else self.eval_batch_size
        common: Any = {
            "weigh_characters": self.weigh_by == "characters",
            "seed": self.seed,
            "shuffle": shuffle,
            "shard": self._shard(),
        }
        if self.batching == "lines":
            even = shuffle and self.batch_by == "characters"
            return LineBatches(lines, size, even=even, **common)
        return StreamBatches(lines, size, self.steps, **common)

    def _shard(self) -> Shard:
        if self.trainer is None:
            return Shard()
        return Shard(self.trainer.global_rank, self.trainer.world_size)

    def _dropped(self, episodes: Sequence[Episode]) -> Iterator[str]:
        """A warning where the charset has nothing for much of the corpus."""
        total = self.corpus.report.characters
        # Counting them takes a moment; how much shorter the text became, or unknown, is at hand.
        text, unknown = self._encoded["train"].text, self.charset.unknown_id
        changed = total - len(text) + (0 if unknown is None else int((text == unknown).sum()))
        if changed <= DROPPED * total:
            return
        lost = self.charset.lacks(episode.text for episode in episodes)
        if lost > DROPPED * total:
            what = f"{count(lost, 'character')} of {total:,} ({lost / total:.0%})"
            yield (
                f"data.charset={self.charset_name} drops {what}; data.charset=corpus keeps them"
                if unknown is None
                else f"data.charset={self.charset_name} has nothing for {what}: to a model, "
                f"which has room for {MAX_SYMBOLS}, they are all the same"
            )

    @rank_zero_only
    def _log_report(self, episodes: Sequence[Episode], parts: Parts) -> None:
        report = self.corpus.report
        for warning in (*report.warnings, *self._dropped(episodes)):
            log.warning("%s", warning)
        log.info("%s: %s", self.corpus.name, report)
        for note in report.notes:
            log.info("%s", note)
        sizes = ", ".join(f"{name} {len(part):,} lines" for name, part in parts._asdict().items())
        message = f"split by {self.split}: {sizes}"
        if self.speakers:
            val, test = repeated(episodes, parts)
            message += f"; {val:,} val lines, {test:,} test lines also stand in train"
        log.info("%s", message)
