"""A corpus as one uint8 tensor of ids, with the position of each line."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from trek_lm.data.charset import Charset
from trek_lm.data.lines import Episode


class EncodedLines(NamedTuple):
    """Lines of an encoded text; the splits of a corpus share the text."""

    text: Tensor  # uint8 (N,): ids of characters
    starts: Tensor  # int64 (lines,): index of the first character
    lengths: Tensor  # int64 (lines,): with the newline

    def take(self, numbers: Tensor) -> "EncodedLines":
        """The lines with these numbers, int64, in this order."""
        return EncodedLines(self.text, self.starts[numbers], self.lengths[numbers])

    def cut(self, max_chars: int) -> "EncodedLines":
        """The same lines, each cut to `max_chars` characters."""
        return self._replace(lengths=self.lengths.clamp(max=max_chars))

    def joined(self) -> Tensor:
        """The lines concatenated: uint8 `(sum of lengths,)`; no copy if they are adjacent."""
        ends = self.starts + self.lengths
        if len(ends) and torch.equal(self.starts[1:], ends[:-1]):
            return self.text[self.starts[0] : ends[-1]]
        # As bytes: a tensor per line, for millions of lines, would take more memory than the text.
        source, result = self.text.numpy().data, bytearray()
        for start, end in zip(self.starts.tolist(), ends.tolist(), strict=True):
            result += source[start:end]
        return torch.frombuffer(result, dtype=torch.uint8) if result else self.text[:0]


def encode(episodes: Sequence[Episode], charset: Charset) -> EncodedLines:
    """Encodes all lines of a corpus, in order; a line is empty if the charset has none of it."""
    pieces = [charset.encode(episode.text) for episode in episodes]
    text = torch.cat(pieces) if pieces else torch.empty(0, dtype=torch.uint8)
    ends = (text == charset.newline_id).nonzero()[:, 0] + 1
    piece_ends = torch.tensor([len(ids) for ids in pieces], dtype=torch.int64).cumsum(0)
    # An episode that was cut within a line (`cut_at_fractions`) ends without a newline.
    cut = [episode.text != "" and not episode.text.endswith("\n") for episode in episodes]
    ends = torch.cat([ends, piece_ends[torch.tensor(cut, dtype=torch.bool)]]).sort().values
    starts = torch.cat([ends.new_zeros(1), ends])[:-1]
    return EncodedLines(text, starts, ends - starts)
