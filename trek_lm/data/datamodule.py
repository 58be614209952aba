"""The LightningDataModule: from a source of transcripts to batches of three disjoint splits."""

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
from trek_lm.data.charset import MAX_VOCAB_SIZE, make_charset
from trek_lm.data.corpora import Source
from trek_lm.data.encoded import EncodedLines, encode
from trek_lm.data.lines import Episode
from trek_lm.data.settings import DataSettings
from trek_lm.data.splits import SPLITS, Splits, cut_at_fractions, repeated, split_lines, texts_of
from trek_lm.errors import UserError
from trek_lm.terminal import count

log = logging.getLogger(__name__)

DROPPED = 0.01  # a warning appears if a larger share of a corpus is dropped
WARM_UP = 2**16  # characters; then state and matches predict to 1e-3 nats as after the whole text


class TranscriptDataModule(pl.LightningDataModule):
    """Reads, splits, encodes and batches one corpus.

    Attributes after `setup()`: `charset`; `corpus`, with its report; `speakers`, the number of
    lines of each, by the name that a model sees; `characters`, the number predicted per epoch of
    each split; `split_sha256`, a hash of the line numbers of the splits.
    """

    def __init__(self, source: Callable[..., Source], **settings: Any) -> None:
        """Reads nothing yet; `source(root=root)` makes the source, `settings` are DataSettings.

        Raises UserError for settings out of bounds.
        """
        super().__init__()
        self.settings = DataSettings(**settings)
        self.source = source(root=self.settings.root)
        self._encoded: dict[str, EncodedLines] = {}
        self._training: BatchSource | None = None
        self._resume_at: dict[str, int] | None = None

    def prepare_data(self) -> None:
        if not self._encoded:
            self.source.fetch()

    def setup(self, stage: str | None = None) -> None:
        """Reads and encodes the corpus once; raises UserError for an unsuitable corpus."""
        if self._encoded:
            return
        settings = self.settings
        self.corpus = self.source.read(settings.reading)
        named = self.corpus.report.speakers
        if settings.batching == "lines" and not named:
            raise UserError(
                "data.batching=lines needs lines with speakers; for plain text add "
                "data.batching=stream data.split=position"
            )
        episodes = self.corpus.episodes
        if (settings.batching, settings.split) == ("stream", "position"):
            episodes = cut_at_fractions(episodes, settings.fractions)
        splits = split_lines(episodes, settings.split, settings.fractions, settings.seed)
        texts = (episode.text for episode in episodes)
        self.charset = make_charset(settings.charset, texts_of(episodes, splits.train), texts)
        self.speakers = Counter[str]()
        for name, lines_spoken in named.items():  # a name that the charset drops is kept
            self.speakers[self.charset.normalise(name) or name] += lines_spoken
        lines = encode(episodes, self.charset)
        self._encoded = {name: self._cut(lines.take(getattr(splits, name))) for name in SPLITS}
        self.characters = {name: self._batches(name).characters for name in SPLITS}
        if not self.characters["train"]:
            raise UserError(
                f"data.charset={settings.charset}: no line of the training split of "
                f"data={self.source.name} has two characters of it; try data.charset=corpus"
            )
        numbers = b"|".join(split.numpy().tobytes() for split in splits)
        self.split_sha256 = hashlib.sha256(numbers).hexdigest()
        self._log_report(episodes, splits)

    def train_dataloader(self) -> BatchSource:
        self._training = self._batches("train", shuffle=True)
        # With `overfit_batches` each epoch has the same batches; Lightning leaves that to us.
        self._training.repeats = getattr(self.trainer, "overfit_batches", 0) > 0
        if self._resume_at is not None:
            self._training.load_state_dict(self._resume_at)
        return self._training

    def state_dict(self) -> dict[str, Any]:
        """Hashes of the corpus and its split, and the state of the training batches.

        Lightning saves a loader's state too, but doesn't restore it if anything has asked for the
        number of batches before.
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

    def has(self, split: str) -> bool:
        """Whether a split has characters to predict."""
        return self.characters[split] > 0

    def random_line(self, split: str, number: int) -> str:
        """A random line as the model sees it, without its newline; `number` seeds the draw."""
        lines = self._encoded[split]
        lines = lines.take(lines.lengths > 1)
        chosen = random.Random(f"line {self.settings.seed} {number}").randrange(len(lines.starts))
        ids = lines.take(torch.tensor([chosen])).joined()
        return self.charset.decode(ids).removesuffix("\n")

    def _cut(self, lines: EncodedLines) -> EncodedLines:
        if self.settings.batching == "stream":
            return lines
        longest = self.settings.max_chars
        if cut := int((lines.lengths > longest).sum()):
            log.warning("cut %s to data.max_chars=%d", count(cut, "line"), longest)
        return lines.cut(longest)

    def _batches(self, split: str, shuffle: bool = False) -> LineBatches | StreamBatches:
        lines, settings = self._encoded[split], self.settings
        trainer = self.trainer
        shard = Shard(trainer.global_rank, trainer.world_size) if trainer else Shard()
        size = settings.batch_size if shuffle else settings.eval_batch_size
        common: Any = {
            "weigh_characters": settings.weigh_by == "characters",
            "seed": settings.seed,
            "shuffle": shuffle,
            "shard": shard,
        }
        if settings.batching == "lines":
            even = shuffle and settings.batch_by == "characters"
            limit = getattr(trainer, f"limit_{split}_batches", None)
            return LineBatches(lines, size, even=even, sample=limit or 0, **common)
        if shuffle:
            return StreamBatches(lines, size, settings.sequence_length, **common)
        # Read as one text. A long one has several tracks, which first read what precedes them.
        tracks = min(size, len(lines.text) // (10 * WARM_UP)) or 1
        common |= {"warm_up": WARM_UP if tracks > 1 else 0}
        length = size * settings.sequence_length // tracks
        return StreamBatches(lines, tracks, length, **common)

    def _dropped(self, episodes: Sequence[Episode]) -> Iterator[str]:
        """Yields a warning if the charset lacks many characters of the corpus."""
        total = self.corpus.report.characters
        # Counting them is slow. It is skipped if encoding has dropped or replaced few characters.
        text, unknown = self._encoded["train"].text, self.charset.unknown_id
        changed = total - len(text) + (0 if unknown is None else int((text == unknown).sum()))
        if changed <= DROPPED * total:
            return
        lost = self.charset.count_missing(episode.text for episode in episodes)
        if lost > DROPPED * total:
            what = f"{count(lost, 'character')} of {total:,} ({lost / total:.0%})"
            yield (
                f"data.charset={self.settings.charset} drops {what}; data.charset=corpus keeps them"
                if unknown is None
                else f"data.charset={self.settings.charset} lacks {what}: a model has at most "
                f"{MAX_VOCAB_SIZE}, so these all become the unknown character"
            )

    @rank_zero_only
    def _log_report(self, episodes: Sequence[Episode], splits: Splits) -> None:
        report = self.corpus.report
        for warning in (*report.warnings, *self._dropped(episodes)):
            log.warning("%s", warning)
        log.info("%s: %s", self.corpus.name, report)
        for note in report.notes:
            log.info("%s", note)
        sizes = ", ".join(
            f"{name} {count(len(lines), 'line')}" for name, lines in splits._asdict().items()
        )
        message = f"split by {self.settings.split}: {sizes}"
        if self.speakers:
            val, test = repeated(episodes, splits)
            message += f"; {val:,} val lines, {test:,} test lines also occur in train"
        log.info("%s", message)
