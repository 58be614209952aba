"""The model: characters in, logits of the next character out."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from trek_lm.errors import UserError, check_whole
from trek_lm.models import matches, ngrams
from trek_lm.models.cells import CELLS
from trek_lm.models.matches import MatchLogits
from trek_lm.models.native.sequences import NativeGRU, NativeLSTM
from trek_lm.models.ngrams import NGramLogits
from trek_lm.models.state import State

MAX_HIDDEN = 16_384
MAX_LAYERS = 64


class RecurrentLM(nn.Module):
    """Input look-up, stacked recurrent layers, head; perhaps n-grams and matches beside them.

    `spec` holds the arguments as plain values: `RecurrentLM(**spec)` is the same architecture,
    in which the same weights mean the same, by whatever engine.
    """

    def __init__(
        self,
        symbols: int,
        *,
        cell: str = "lstm",
        engine: str = "torch",
        hidden: int = 256,
        layers: int = 1,
        dropout: float = 0.0,
        weight_drop: float = 0.0,
        embedding: int | str = "onehot",
        head: str = "linear",
        head_dropout: float = 0.1,
        head_rank: int = 64,
        ngrams: int = 0,
        ngram_rows: int = 2**18,
        ngram_dropout: float = 0.0,
        matches: Sequence[int] = (),
        match_rows: int = 2**12,
    ) -> None:
        """A model over `symbols` characters.

        `cell`, `engine`: as named in `trek_lm.models.cells`. `embedding`: size of a learned
        input vector, or "onehot" for the characters themselves. `dropout`: on the outputs of
        every recurrent layer. `weight_drop`: on the recurrent layers' weights over their own
        states, drawn anew for each batch (S. Merity et al., Regularizing and optimizing LSTM
        language models, 2018). `head`: "linear", or "writeup" for its authors' Linear(H, H) ->
        Dropout(`head_dropout`) -> Linear(H, symbols), or "factored" for Linear(H, `head_rank`)
        -> Linear(`head_rank`, symbols). `ngrams`: the longest that adds to the logits
        (`trek_lm.models.ngrams`), 0 for none; `ngram_rows`: of their table; `ngram_dropout`: on
        the rows looked up. `matches`: after how many characters that stood in the text before
        what followed adds to the logits (`trek_lm.models.matches`); `match_rows`: of the table
        for each length.

        Raises UserError that names the key for a value out of range.
        """
        super().__init__()
        self.spec: dict[str, Any] = {
            "symbols": symbols,
            "cell": cell,
            "hidden": hidden,
            "layers": layers,
            "dropout": dropout,
            "weight_drop": weight_drop,
            "embedding": embedding,
            "head": head,
            "head_dropout": head_dropout,
            "head_rank": head_rank,
            "ngrams": ngrams,
            "ngram_rows": ngram_rows,
            "ngram_dropout": ngram_dropout,
            "matches": _plain(matches),
            "match_rows": match_rows,
        }
        check_spec(self.spec)
        _check_choice("engine", engine, CELLS[cell])
        self.engine = engine
        size = symbols if isinstance(embedding, str) else embedding
        self.embedding = nn.Embedding(symbols, size)
        if embedding == "onehot":
            # nn.LSTM takes vectors, so looking a character up gives its row of the identity,
            # and the product with the first layer's input weights picks that character's column.
            nn.init.eye_(self.embedding.weight)
            self.embedding.weight.requires_grad_(False)
        between = dropout if layers > 1 else 0.0  # torch warns where there is no between
        self.recurrent = CELLS[cell][engine](size, hidden, num_layers=layers, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.weight_drop = weight_drop
        if weight_drop and not self._recurrent_weights():
            raise UserError(f"model.weight_drop={weight_drop}: model.cell={cell} has no weight_hh")
        self.head = _HEADS[head](hidden, symbols, head_dropout, head_rank)
        self.ngrams = NGramLogits(symbols, ngrams, ngram_rows, ngram_dropout) if ngrams else None
        self.matches = (
            MatchLogits(symbols, hidden, self.spec["matches"], match_rows) if matches else None
        )
        memories = [part for part in (self.ngrams, self.matches) if part is not None]
        self.history = max((part.history for part in memories), default=0)

    def forward(self, ids: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Logits `(T, B, symbols)` and the state after ids `(T, B)`; no state is a zero state.

        The state is that of the recurrent layers. With n-grams or matches the last characters
        `(history, B)` follow, ids counted from 1 and 0 for a place before the first; with
        matches their table, which is written into: nobody can go back to such a state.
        """
        if not self.history:
            outputs, state = self._recurrent(ids, state)
            return self.head(outputs), state
        own, last, table = self._parted(ids, state)
        outputs, own = self._recurrent(ids, own)
        logits = self.head(outputs)
        seen = torch.cat([last, ids + 1])
        memory = [seen[len(ids) :]]
        if self.ngrams is not None:
            logits = logits + self.ngrams(seen, len(ids))
        if self.matches is not None:
            by_matches, table = self.matches(seen, outputs, table)
            logits = logits + by_matches
            memory.append(table)
        return logits, (*(own if isinstance(own, tuple) else (own,)), *memory)

    def _recurrent(self, ids: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Outputs `(T, B, H)` of the recurrent layers, with dropout, and their state."""
        if isinstance(self.recurrent, NativeLSTM | NativeGRU):  # look-up and dropout are its own
            own = {"vectors": self.embedding.weight, "output_dropout": self.dropout.p}
            outputs, state = functional_call(self.recurrent, self._dropped(), (ids, state), own)
        else:
            inputs = self.embedding(ids)
            outputs, state = functional_call(self.recurrent, self._dropped(), (inputs, state))
            outputs = self.dropout(outputs)  # (T, B, H)
        return outputs, state

    def _parted(
        self, ids: Tensor, state: State | None
    ) -> tuple[State | None, Tensor, Tensor | None]:
        """The recurrent layers' state, the last characters, and the table of matches."""
        if state is None:
            return None, ids.new_zeros(self.history, ids.shape[1]), None
        *own, last = state[:-1] if self.matches is not None else state
        table = state[-1] if self.matches is not None else None
        return tuple(own) if len(own) > 1 else own[0], last, table

    def _dropped(self) -> dict[str, Tensor]:
        """The weights over own states with some of them at zero, in training."""
        if not (self.training and self.weight_drop):
            return {}
        weights = self._recurrent_weights().items()
        return {name: functional.dropout(weight, self.weight_drop) for name, weight in weights}

    def _recurrent_weights(self) -> dict[str, Tensor]:
        named = self.recurrent.named_parameters()
        return {name: weight for name, weight in named if name.startswith("weight_hh")}


def _plain(lengths: object) -> object:
    """What a config calls a list as a list; anything else as it is, to be refused."""
    is_list = isinstance(lengths, Sequence) and not isinstance(lengths, str)
    return list(lengths) if is_list else lengths  # type: ignore[call-overload]


def _linear_head(hidden: int, symbols: int, dropout: float, rank: int) -> nn.Module:
    return nn.Linear(hidden, symbols)


def _writeup_head(hidden: int, symbols: int, dropout: float, rank: int) -> nn.Module:
    return nn.Sequential(nn.Linear(hidden, hidden), nn.Dropout(dropout), nn.Linear(hidden, symbols))


def _factored_head(hidden: int, symbols: int, dropout: float, rank: int) -> nn.Module:
    return nn.Sequential(nn.Linear(hidden, rank), nn.Linear(rank, symbols))


_HEADS = {"linear": _linear_head, "writeup": _writeup_head, "factored": _factored_head}


def check_spec(spec: dict[str, Any]) -> None:
    """Raises UserError, naming the key, unless these are arguments a model can be built from."""
    whole = {"hidden": MAX_HIDDEN, "layers": MAX_LAYERS, "symbols": 256, "head_rank": MAX_HIDDEN}
    for key, largest in whole.items():
        check_whole(f"model.{key}", spec[key], 1, largest)
    if spec["embedding"] != "onehot":
        check_whole("model.embedding", spec["embedding"], 1, MAX_HIDDEN, other='"onehot"')
    for key in ("dropout", "weight_drop", "head_dropout", "ngram_dropout"):
        value = spec[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
            raise UserError(f"model.{key}={value}: must be a number from 0 to below 1")
    ngrams.check(spec["ngrams"], spec["ngram_rows"])
    matches.check(spec["matches"], spec["match_rows"])
    for key, choices in (("cell", CELLS), ("head", _HEADS)):
        _check_choice(key, spec[key], choices)


def _check_choice(key: str, value: object, choices: Mapping[str, object]) -> None:
    if value not in choices:
        raise UserError(f"model.{key}={value}: choose {' or '.join(choices)}")
