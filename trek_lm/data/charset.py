"""Characters as small integers: text to uint8 ids and back."""

import string
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import partial
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from trek_lm.errors import UserError

# The write-up's 72 characters: 52 letters, 10 digits, 9 signs and the newline that ends a line.
WRITEUP_SYMBOLS = string.ascii_letters + string.digits + " ?!.,:;'-\n"
UNKNOWN = "\N{REPLACEMENT CHARACTER}"
NEWLINE = "\n"
MAX_SYMBOLS = 256  # ids are stored as uint8


class Charset:
    """An ordered set of at most 256 characters; the id of a character is its index.

    Text is composed first (Unicode NFC). A character outside the set is replaced by its parts
    without combining marks (NFD), "é" by "e". What is still outside the set becomes the unknown
    character if the set has it; otherwise it is dropped, as in the write-up.
    """

    def __init__(self, symbols: str) -> None:
        if len(set(symbols)) != len(symbols) or not 0 < len(symbols) <= MAX_SYMBOLS:
            raise ValueError(f"a charset must have 1 to {MAX_SYMBOLS} distinct characters")
        if NEWLINE not in symbols:
            raise ValueError("a charset must contain the newline, which ends every line")
        self.symbols = symbols
        self.unknown_id = symbols.find(UNKNOWN) if UNKNOWN in symbols else None
        self.newline_id = symbols.index(NEWLINE)
        self._to_id = _Translation({ord(symbol): chr(i) for i, symbol in enumerate(symbols)})

    @classmethod
    def writeup(cls) -> "Charset":
        """The write-up's 72 characters; everything else is dropped."""
        return cls(WRITEUP_SYMBOLS)

    @classmethod
    def of(cls, texts: Iterable[str], *, unknown: bool = True) -> "Charset":
        """The characters of these texts, the newline and, with `unknown`, the unknown character.

        If there are more than 256, the most frequent ones are kept and the others become unknown.
        Without `unknown` that raises UserError.
        """
        counts = _counts(texts)
        reserved = [NEWLINE, UNKNOWN] if unknown else [NEWLINE]
        for symbol in reserved:
            counts.pop(symbol, None)
        room = MAX_SYMBOLS - len(reserved)
        if len(counts) > room and not unknown:
            raise UserError(
                f"data.charset=all: the corpus has {len(counts) + 1} characters, more than "
                f"{MAX_SYMBOLS}; data.charset=corpus keeps the most frequent ones"
            )
        # Ties are broken by the character, so that the set doesn't depend on the reading order.
        ranked = sorted(counts, key=lambda symbol: (-counts[symbol], symbol))
        return cls("".join(sorted([*ranked[:room], *reserved])))

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, text: str) -> Tensor:
        """Text to ids: uint8 `(N,)`, with `decode(encode(text)) == normalise(text)`."""
        # Line by line: ASCII is ten times as fast, and in most texts most lines are ASCII.
        lines = [text] if text.isascii() else text.splitlines(keepends=True)
        # `ids` has, for each id, the character with that code point.
        ids = "".join([_compose(line).translate(self._to_id) for line in lines])
        return torch.from_numpy(np.frombuffer(bytearray(ids, "latin-1"), dtype=np.uint8))

    def decode(self, ids: Iterable[int]) -> str:
        """Ids to text; takes any iterable of integers, such as a tensor."""
        return "".join(self.symbols[int(i)] for i in ids)

    def normalise(self, text: str) -> str:
        """The text as a model with this charset sees it."""
        return self.decode(self.encode(text).tolist())

    def missing(self, text: str) -> list[tuple[int, str]]:
        """Position and character of everything in a text that the charset lacks."""
        nothing = {None, self._to_id.get(ord(UNKNOWN))}
        return [
            (position, symbol)
            for position, symbol in enumerate(text)
            if self._to_id[ord(symbol)] in nothing and not unicodedata.combining(symbol)
        ]

    def count_missing(self, texts: Iterable[str]) -> int:
        """The number of characters of these texts that the charset lacks."""
        counts = _counts(texts)
        return sum(counts[symbol] for _, symbol in self.missing("".join(counts)))


class _Translation(dict[int, str | None]):
    """Maps a code point to the character whose code point is its id; None drops it."""

    def __missing__(self, code: int) -> str | None:
        unknown = self.get(ord(UNKNOWN))
        parts = unicodedata.normalize("NFD", chr(code))
        base = [ord(part) for part in parts if not unicodedata.combining(part)]
        found = [self[part] for part in base if part != code]
        if base and set(found) <= {unknown}:  # one unknown character, whatever the number of parts
            return unknown
        return "".join(part or "" for part in found) or None


_compose = partial(unicodedata.normalize, "NFC")


def _counts(texts: Iterable[str]) -> Counter[str]:
    return Counter(chain.from_iterable(map(_compose, texts)))


def make_charset(name: str, training: Iterable[str], whole: Iterable[str]) -> Charset:
    """The charset for a value of `data.charset`.

    `writeup`: the 72 characters; `corpus`: those of the training split and the unknown character;
    `all`: those of the whole corpus, as in the usual benchmarks on a single text.
    """
    if name == "writeup":
        return Charset.writeup()
    return Charset.of(training) if name == "corpus" else Charset.of(whole, unknown=False)
