"""Characters as small integers: text to uint8 ids and back."""

import string
import unicodedata
from collections import Counter
from collections.abc import Iterable

import torch
from torch import Tensor

from trek_lm.errors import UserError

# The write-up's 72: 52 letters, 10 digits, nine signs and the newline that ends a line.
WRITEUP_SYMBOLS = string.ascii_letters + string.digits + " ?!.,:;'-\n"
UNKNOWN = "\N{REPLACEMENT CHARACTER}"
NEWLINE = "\n"
MAX_SYMBOLS = 256  # ids are stored as uint8


class Charset:
    """An ordered set of at most 256 characters; a character's id is its place.

    Text is decomposed first (Unicode NFD) and stripped of combining marks, so that "é" is read
    as "e". What is not in the set then becomes the unknown symbol where the set has one, and is
    dropped where it has none, as in the write-up.
    """

    def __init__(self, symbols: str) -> None:
        if len(set(symbols)) != len(symbols) or not 0 < len(symbols) <= MAX_SYMBOLS:
            raise ValueError(f"a charset has 1 to {MAX_SYMBOLS} distinct characters")
        if NEWLINE not in symbols:
            raise ValueError("a charset holds the newline: it ends every line")
        self.symbols = symbols
        self.unknown_id = symbols.find(UNKNOWN) if UNKNOWN in symbols else None
        self.newline_id = symbols.index(NEWLINE)
        self._to_id = _Translation(symbols, None if self.unknown_id is None else UNKNOWN)

    @classmethod
    def writeup(cls) -> "Charset":
        """The write-up's 72 characters; everything else is dropped."""
        return cls(WRITEUP_SYMBOLS)

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Charset":
        """The characters of these texts, the newline and the unknown symbol.

        A script with more than 254 characters keeps its most frequent ones.
        """
        counts = Counter[str]()
        for text in texts:
            counts.update(_decompose(text))
        for reserved in (UNKNOWN, NEWLINE):
            counts.pop(reserved, None)
        # Ties are broken by the character, so that the set does not depend on reading order.
        ranked = sorted(counts, key=lambda symbol: (-counts[symbol], symbol))
        return cls("".join(sorted([*ranked[: MAX_SYMBOLS - 2], NEWLINE, UNKNOWN])))

    def __len__(self) -> int:
        return len(self.symbols)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Charset) and other.symbols == self.symbols

    def __hash__(self) -> int:
        return hash(self.symbols)

    def encode(self, text: str) -> Tensor:
        """Ids of a text: uint8 `(N,)`, with `decode(encode(text)) == normalise(text)`."""
        ids = self._ids_as_latin1(text).encode("latin-1")
        return torch.frombuffer(bytearray(ids), dtype=torch.uint8) if ids else _no_ids()

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; any iterable of integers, a tensor among them."""
        return "".join(self.symbols[int(i)] for i in ids)

    def normalise(self, text: str) -> str:
        """The text as a model of this charset sees it."""
        return "".join(self.symbols[ord(i)] for i in self._ids_as_latin1(text))

    def missing(self, text: str) -> list[tuple[int, str]]:
        """Position and character of everything in a text that the charset lacks."""
        return [
            (position, symbol)
            for position, symbol in enumerate(text)
            if any(part not in self.symbols for part in _decompose(symbol))
        ]

    def _ids_as_latin1(self, text: str) -> str:
        # One C-speed pass: each id stands as the character of that code point.
        return unicodedata.normalize("NFD", text).translate(self._to_id)


class _Translation(dict[int, str | None]):
    """Code point -> the character whose code point is its id; None drops it."""

    def __init__(self, symbols: str, unknown: str | None) -> None:
        super().__init__({ord(symbol): chr(i) for i, symbol in enumerate(symbols)})
        self._unknown = None if unknown is None else chr(symbols.index(unknown))

    def __missing__(self, code: int) -> str | None:
        return None if unicodedata.combining(chr(code)) else self._unknown


def _decompose(text: str) -> str:
    decomposed = unicodedata.normalize("NFD", text)
    if decomposed.isascii():
        return decomposed
    return "".join(symbol for symbol in decomposed if not unicodedata.combining(symbol))


def _no_ids() -> Tensor:
    return torch.empty(0, dtype=torch.uint8)


def make_charset(name: str, texts: Iterable[str]) -> Charset:
    """The charset that `data.charset` names: `writeup`, or `corpus` for that of `texts`."""
    if name == "writeup":
        return Charset.writeup()
    if name == "corpus":
        return Charset.of(texts)
    raise UserError(f"data.charset={name}: choose writeup or corpus")
