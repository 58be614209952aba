"""The LightningDataModule: a source of transcripts becomes batches of three disjoint parts."""

import logging
from collections import Counter
from collections.abc import Callable

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from trek_lm.data.batching import BatchSource, LineBatches, Shard, StreamBatches
from trek_lm.data.charset import Charset, make_charset
from trek_lm.data.corpora import Corpus, Source
from trek_lm.data.lines import Line
from trek_lm.data.splits import Fractions, Parts, split_lines
from trek_lm.errors import UserError

log = logging.getLogger(__name__)

PARTS = ("train", "val", "test")


class TranscriptDataModule(pl.LightningDataModule):
    """Reads, splits, encodes and batches one corpus.

    After `setup()`: `charset`, `corpus` (with its report), `speakers` (lines each speaks in the
    corpus) and `characters` (predicted in an epoch of each part).
    """

    corpus: Corpus
    charset: Charset
    speakers: Counter[str]
    characters: dict[str, int]

    def __init__(
        self,
        source: Callable[..., Source],
        *,
        root: str | None = None,
        split: str = "episode",
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        charset: str = "writeup",
        batching: str = "lines",
        batch_size: int = 32,
        eval_batch_size: int = 128,
        steps: int = 64,
        max_chars: int = 2000,
        seed: int = 0,
        epochs: int | None = None,
    ) -> None:
        """Nothing is read yet.

        `source(root=root)` gives the source. `steps`: characters of each track in a stream
        batch. `max_chars`: where a longer line is cut. `epochs`: how many suit the corpus;
        `trainer.max_epochs` refers to it.
        """
        super().__init__()
        for name, value in (
            ("batch_size", batch_size),
            ("eval_batch_size", eval_batch_size),
            ("steps", steps),
            ("max_chars", max_chars),
        ):
            if not isinstance(value, int) or value < 1:
                raise UserError(f"data.{name}={value}: must be a whole number above 0")
        if batching not in ("lines", "stream"):
            raise UserError(f"data.batching={batching}: choose lines or stream")
        self.source = source(root=root)
        self.epochs = epochs
        self.split = split
        self.fractions = Fractions(val_fraction, test_fraction)
        self.charset_name = charset
        self.batching = batching
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.steps = steps
        self.max_chars = max_chars
        self.seed = seed
        self._encoded: dict[str, list[Tensor]] = {}

    def prepare_data(self) -> None:
        if not self._encoded:
            self.source.fetch()

    def setup(self, stage: str | None = None) -> None:
        """Reads and encodes the corpus, once; raises UserError for a corpus that can't serve."""
        if self._encoded:
            return
        self.corpus = self.source.read()
        self.speakers = self.corpus.report.speakers
        parts = split_lines(self.corpus.lines, self.split, self.fractions, self.seed)
        texts = {name: [render(line) for line in getattr(parts, name)] for name in PARTS}
        self.charset = make_charset(self.charset_name, texts["train"])
        self._encoded = {name: self._encode(texts[name]) for name in PARTS}
        self.characters = {name: self._batches(name).characters for name in PARTS}
        if not self.characters["train"]:
            raise UserError(f"data={self.source.name}: no line has two characters of the charset")
        self._log_report(parts)

    def train_dataloader(self) -> BatchSource:
        return self._batches("train", shuffle=True)

    def val_dataloader(self) -> BatchSource | list[BatchSource]:
        return self._batches("val") if self.has("val") else []

    def test_dataloader(self) -> BatchSource | list[BatchSource]:
        return self._batches("test") if self.has("test") else []

    def has(self, part: str) -> bool:
        """Whether a part has anything to predict."""
        return self.characters[part] > 0

    def _encode(self, texts: list[str]) -> list[Tensor]:
        ids = [self.charset.encode(text) for text in texts]
        if self.batching == "stream":
            return ids
        cut = sum(len(line) > self.max_chars for line in ids)
        if cut:
            log.warning("%d lines are cut to data.max_chars=%d", cut, self.max_chars)
        return [line[: self.max_chars] for line in ids]

    def _batches(self, part: str, shuffle: bool = False) -> LineBatches | StreamBatches:
        lines = self._encoded[part]
        size = self.batch_size if shuffle else self.eval_batch_size
        shard = self._shard()
        if self.batching == "lines":
            return LineBatches(lines, size, seed=self.seed, shuffle=shuffle, shard=shard)
        return StreamBatches(lines, size, self.steps, seed=self.seed, shuffle=shuffle, shard=shard)

    def _shard(self) -> Shard:
        if self.trainer is None:
            return Shard()
        return Shard(self.trainer.global_rank, self.trainer.world_size)

    @rank_zero_only
    def _log_report(self, parts: Parts) -> None:
        report = self.corpus.report
        for warning in report.warnings:
            log.warning("%s", warning)
        log.info("%s: %s", self.corpus.name, report)
        sizes = ", ".join(f"{name} {len(getattr(parts, name)):,} lines" for name in PARTS)
        log.info(
            "split by %s: %s; %s",
            self.split,
            sizes,
            ", ".join(
                f"{parts.duplicates(part):,} {name} lines also stand in train"
                for name, part in (("val", parts.val), ("test", parts.test))
            ),
        )


def render(line: Line) -> str:
    """A line as a model reads it: `SPEAKER: text` and the newline that ends it."""
    return f"{line.speaker}: {line.text}\n"
