"""A corpus as numbers: one uint8 tensor, and where its lines are."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from trek_lm.data.charset import Charset
from trek_lm.data.lines import Episode


class EncodedLines(NamedTuple):
    """Lines of a text; splits of a corpus share the text and differ in their lines."""

    text: Tensor  # uint8 (N,): ids of characters
    starts: Tensor  # int64 (lines,)
    lengths: Tensor  # int64 (lines,): newline included

    def take(self, numbers: Tensor) -> "EncodedLines":
        """The lines of these numbers, int64, in this order."""
        return EncodedLines(self.text, self.starts[numbers], self.lengths[numbers])

    def cut(self, max_chars: int) -> "EncodedLines":
        """The same lines, none longer than that."""
        return self._replace(lengths=self.lengths.clamp(max=max_chars))

    def joined(self) -> Tensor:
        """One line after the other: uint8 `(sum of lengths,)`; no copy where they are adjacent."""
        ends = self.starts + self.lengths
        if len(ends) and torch.equal(self.starts[1:], ends[:-1]):
            return self.text[self.starts[0] : ends[-1]]
        # As bytes: a tensor for each of millions of lines would take more room than the text.
        source, result = self.text.numpy().data, bytearray()
        for start, end in zip(self.starts.tolist(), ends.tolist(), strict=True):
            result += source[start:end]
        return torch.frombuffer(result, dtype=torch.uint8) if result else self.text[:0]


def encode(episodes: Sequence[Episode], charset: Charset) -> EncodedLines:
    """All lines of a corpus, in order; one may be empty when the charset has none of it."""
    pieces = [charset.encode(episode.text) for episode in episodes]
    text = torch.cat(pieces) if pieces else torch.empty(0, dtype=torch.uint8)
    ends = (text == charset.newline_id).nonzero()[:, 0] + 1
    piece_ends = torch.tensor([len(ids) for ids in pieces], dtype=torch.int64).cumsum(0)
    # A text that was cut within a line ends with a piece of that line.
    cut = [episode.text != "" and not episode.text.endswith("\n") for episode in episodes]
    ends = torch.cat([ends, piece_ends[torch.tensor(cut, dtype=torch.bool)]]).sort().values
    starts = torch.cat([ends.new_zeros(1), ends])[:-1]
    return EncodedLines(text, starts, ends - starts)
