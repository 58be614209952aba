"""The model: character ids in, logits of the next character out."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from trek_lm.errors import UserError
from trek_lm.models.cells import CELLS, RUN
from trek_lm.models.contexts import Rows
from trek_lm.models.matches import MatchLogits
from trek_lm.models.ngrams import NGramLogits
from trek_lm.models.state import LayersState, State
from trek_lm.models.weight_drop import drop_weights, recurrent_weights
from trek_lm.settings import settings

Units = Annotated[int, Field(ge=1, le=16_384)]
Dropout = Annotated[float, Field(ge=0, lt=1)]


def _all_different(lengths: list[int]) -> list[int]:
    if len(set(lengths)) < len(lengths):
        raise ValueError("must all be different")
    return lengths


@settings("model.")
class ModelSettings:
    """The architecture of a model; checkpoints store it beside the weights."""

    vocab_size: Annotated[int, Field(ge=1, le=256)]  # characters
    cell: str = "lstm"  # a key of `trek_lm.models.cells.CELLS`
    hidden: Units = 256  # units of each recurrent layer
    layers: Annotated[int, Field(ge=1, le=64)] = 1
    dropout: Dropout = 0.0  # on the outputs of every recurrent layer
    weight_drop: Dropout = 0.0  # on the recurrent weights
    embedding: Units | Literal["onehot"] = "onehot"  # size of a learned input vector
    # linear: Linear(H, V); writeup: Linear(H, H) -> Dropout(head_dropout) -> Linear(H, V);
    # factored: Linear(H, head_rank) -> Linear(head_rank, V).
    head: Literal["linear", "writeup", "factored"] = "linear"
    head_dropout: Dropout = 0.1
    head_rank: Units = 64
    ngrams: Literal[0, 2, 3, 4, 5, 6, 7, 8] = 0  # the longest that adds to the logits; 0: none
    ngram_rows: Rows = 2**18  # of their table
    ngram_dropout: Dropout = 0.0  # on the rows looked up
    # Lengths n: what followed the last n characters at their previous occurrence adds a logit.
    matches: Annotated[list[Annotated[int, Field(ge=1, le=32)]], AfterValidator(_all_different)] = (
        Field(default_factory=list, max_length=8, strict=False)
    )  # not strict: accepts tuples and OmegaConf's lists
    match_rows: Rows = 2**12  # of the match table, for each length


class RecurrentLM(nn.Module):
    """Embedding, stacked recurrent layers and head; optional n-gram and match logits are added."""

    def __init__(self, vocab_size: int, *, engine: str = "torch", **architecture: Any) -> None:
        """`architecture`: the fields of `ModelSettings`; `engine`: see `trek_lm.models.cells`.

        Raises UserError that names the key of an invalid value.
        """
        super().__init__()
        self.settings = given = ModelSettings(vocab_size=vocab_size, **architecture)
        _check_choice("cell", given.cell, CELLS)
        _check_choice("engine", engine, CELLS[given.cell])
        self.engine = engine
        size = vocab_size if given.embedding == "onehot" else given.embedding
        self.embedding = nn.Embedding(vocab_size, size)
        if given.embedding == "onehot":
            # The embedding is the identity, so a character's vector is one-hot, and its product
            # with the first layer's input weights is that character's column.
            nn.init.eye_(self.embedding.weight)
            self.embedding.weight.requires_grad_(False)
        between = given.dropout if given.layers > 1 else 0.0  # torch warns for a single layer
        recurrent = CELLS[given.cell][engine]
        self.recurrent = recurrent(size, given.hidden, num_layers=given.layers, dropout=between)
        if given.weight_drop and not recurrent_weights(self.recurrent):
            wrong = f"model.weight_drop={given.weight_drop}"
            raise UserError(f"{wrong}: model.cell={given.cell} has no weight_hh parameters; use 0")
        self.head = _head(given)
        self.ngrams = self.matches = None
        if given.ngrams:
            table = (given.ngrams, given.ngram_rows, given.ngram_dropout)
            self.ngrams = NGramLogits(vocab_size, *table)
        if given.matches:
            self.matches = MatchLogits(vocab_size, given.hidden, given.matches, given.match_rows)
        self.history: int = max(getattr(m, "history", 0) for m in (self.ngrams, self.matches))

    @property
    def spec(self) -> dict[str, Any]:
        """The settings as plain values: `RecurrentLM(**spec)` has the same architecture."""
        return asdict(self.settings)

    def forward(self, ids: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Logits `(T, B, V)` and the new state for ids `(T, B)`; None is a zero state.

        The match table of `state` is updated in place, so a state can't be reused.
        """
        outputs, recurrent = self._recurrent(ids, state)
        logits = self.head(outputs)
        if not self.history:
            return logits, State(recurrent)
        before = state or State((), ids.new_zeros(self.history, ids.shape[1]))
        assert before.seen is not None
        seen, table = torch.cat([before.seen, ids + 1]), before.matches
        if self.ngrams is not None:
            logits = logits + self.ngrams(seen, len(ids))
        if self.matches is not None:
            by_matches, table = self.matches(seen, outputs, table)
            logits = logits + by_matches
        return logits, State(recurrent, seen[len(ids) :], table)

    def _recurrent(self, ids: Tensor, state: State | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Outputs `(T, B, H)` of the recurrent layers, with dropout, and their state."""
        initial: LayersState | None = None if state is None else state.recurrent
        initial = initial[0] if initial is not None and len(initial) == 1 else initial
        weights = drop_weights(self.recurrent, self.settings.weight_drop)
        vectors, run = self.embedding.weight, RUN[self.engine]
        outputs, after = run(self.recurrent, weights, ids, initial, vectors, self.settings.dropout)
        return outputs, after if isinstance(after, tuple) else (after,)


def _head(given: ModelSettings) -> nn.Module:
    size, vocab_size = given.hidden, given.vocab_size
    if given.head == "writeup":
        dropout = nn.Dropout(given.head_dropout)
        return nn.Sequential(nn.Linear(size, size), dropout, nn.Linear(size, vocab_size))
    if given.head == "factored":
        rank = given.head_rank
        return nn.Sequential(nn.Linear(size, rank), nn.Linear(rank, vocab_size))
    return nn.Linear(size, vocab_size)


def _check_choice(key: str, value: str, choices: Mapping[str, object]) -> None:
    if value not in choices:
        raise UserError(f"model.{key}={value}: choose {' or '.join(choices)}")
