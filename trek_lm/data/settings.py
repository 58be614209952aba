"""The settings `data.*`: one field per key, with its bounds."""

from typing import Annotated, Literal

from pydantic import Field

from trek_lm.data.formats.registry import FORMATS
from trek_lm.data.lines import Reading
from trek_lm.data.splits import Fractions
from trek_lm.errors import UserError
from trek_lm.settings import Seed, settings

Fraction = Annotated[float, Field(ge=0, lt=1)]
Size = Annotated[int, Field(ge=1, lt=2**31)]


@settings("data.")
class DataSettings:
    """How a corpus is read, split, encoded and batched; raises UserError for invalid values."""

    root: str | None = None  # a folder of transcripts or one file, passed to the source
    format: Literal["auto", *FORMATS] = "auto"  # type: ignore[valid-type]
    labels: Literal["capitals", "mixed", "any"] = "capitals"  # how speakers are written
    series: str | int | list[str | int] | None = None  # for a file with several series; None: all
    split: Literal["episode", "line", "position"] = "episode"
    val_fraction: Fraction = 0.1  # training gets the rest
    test_fraction: Fraction = 0.1
    charset: Literal["writeup", "corpus", "all"] = "writeup"
    batching: Literal["lines", "stream"] = "lines"
    batch_size: Size = 32  # lines, or tracks of a stream
    batch_by: Literal["lines", "characters"] = "lines"  # which number training batches share
    weigh_by: Literal["characters", "batches"] = "characters"  # what has equal weight in the loss
    eval_batch_size: Size = 128
    sequence_length: Size = 64  # characters of each track per batch of a stream
    max_chars: Annotated[Size, Field(ge=2)] = 2000  # per line; at least one is predicted
    seed: Seed = 0  # of the split and the order of batches
    epochs: Size | None = None  # default of `trainer.max_epochs` for the corpus

    def __post_init__(self) -> None:
        if (self.batching, self.batch_by) == ("stream", "characters"):
            raise UserError("data.batch_by=characters: a stream has no lines; remove it")
        if sum(self.fractions) >= 1:
            raise UserError(
                f"data.val_fraction={self.val_fraction:g} and "
                f"data.test_fraction={self.test_fraction:g} sum to {sum(self.fractions):g}: "
                "must be less than 1, training gets the rest"
            )

    @property
    def fractions(self) -> Fractions:
        """Fractions of the validation and the test split."""
        return Fractions(self.val_fraction, self.test_fraction)

    @property
    def reading(self) -> Reading:
        """How transcripts are read."""
        series = self.series if isinstance(self.series, list) else [self.series]
        names = tuple(str(name) for name in series if name is not None)
        return Reading(self.format, self.labels, names)
