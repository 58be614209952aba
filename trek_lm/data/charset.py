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
WRITEUP_CHARACTERS = string.ascii_letters + string.digits + " ?!.,:;'-\n"
UNKNOWN = "\N{REPLACEMENT CHARACTER}"
NEWLINE = "\n"
MAX_VOCAB_SIZE = 256  # ids are stored as uint8


class Charset:
    """An ordered set of at most 256 characters; the id of a character is its index.

    Text is composed first (Unicode NFC). A character outside the set is replaced by its parts
    without combining marks (NFD), "é" by "e". What is still outside the set becomes the unknown
    character if the set has it; otherwise it is dropped, as in the write-up.
    """

    def __init__(self, characters: str) -> None:
        if len(set(characters)) != len(characters) or not 0 < len(characters) <= MAX_VOCAB_SIZE:
            raise ValueError(f"a charset must have 1 to {MAX_VOCAB_SIZE} distinct characters")
        if NEWLINE not in characters:
            raise ValueError("a charset must contain the newline, which ends every line")
        self.characters = characters
        self.unknown_id = characters.find(UNKNOWN) if UNKNOWN in characters else None
        self.newline_id = characters.index(NEWLINE)
        self._to_id = _Translation(
            {ord(character): chr(i) for i, character in enumerate(characters)}
        )

    @classmethod
    def writeup(cls) -> "Charset":
        """The write-up's 72 characters; everything else is dropped."""
        return cls(WRITEUP_CHARACTERS)

    @classmethod
    def of(cls, texts: Iterable[str], *, unknown: bool = True) -> "Charset":
        """The characters of these texts, the newline and, with `unknown`, the unknown character.

        If there are more than 256, the most frequent ones are kept and the others become unknown.
        Without `unknown` that raises UserError.
        """
        counts = _counts(texts)
        reserved = [NEWLINE, UNKNOWN] if unknown else [NEWLINE]
        for character in reserved:
            counts.pop(character, None)
        room = MAX_VOCAB_SIZE - len(reserved)
        if len(counts) > room and not unknown:
            raise UserError(
                f"data.charset=all: the corpus has {len(counts) + 1} characters, more than "
                f"{MAX_VOCAB_SIZE}; data.charset=corpus keeps the most frequent ones"
            )
        # Ties are broken by the character, so that the set doesn't depend on the reading order.
        ranked = sorted(counts, key=lambda character: (-counts[character], character))
        return cls("".join(sorted([*ranked[:room], *reserved])))

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> Tensor:
        """Text to ids: uint8 `(N,)`, with `decode(encode(text)) == normalise(text)`."""
        # Line by line: ASCII is ten times as fast, and in most texts most lines are ASCII.
        lines = [text] if text.isascii() else text.splitlines(keepends=True)
        # `ids` has, for each id, the character with that code point.
        ids = "".join([_compose(line).translate(self._to_id) for line in lines])
        return torch.from_numpy(np.frombuffer(bytearray(ids, "latin-1"), dtype=np.uint8))

    def decode(self, ids: Iterable[int]) -> str:
        """Ids to text; takes any iterable of integers, such as a tensor."""
        return "".join(self.characters[int(i)] for i in ids)

    def normalise(self, text: str) -> str:
        """The text as a model with this charset sees it."""
        return self.decode(self.encode(text).tolist())

    def missing(self, text: str) -> list[tuple[int, str]]:
        """Position and character of everything in a text that the charset lacks."""
        nothing = {None, self._to_id.get(ord(UNKNOWN))}
        return [
            (position, character)
            for position, character in enumerate(text)
            if self._to_id[ord(character)] in nothing and not unicodedata.combining(character)
        ]

    def count_missing(self, texts: Iterable[str]) -> int:
        """The number of characters of these texts that the charset lacks."""
        counts = _counts(texts)
        return sum(counts[character] for _, character in self.missing("".join(counts)))


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
