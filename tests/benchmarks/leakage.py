"""Accuracy by where training has a word: `python -m tests.benchmarks.leakage FOLDER...`.

For each run with `data.batching=lines`: the share of the predicted test characters, and the
accuracy, in words that the training split has in other episodes too, in the same episode only, or
nowhere; and between words.
"""

import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.nn.utils.rnn import pad_sequence

from trek_lm.data.datamodule import TranscriptDataModule
from trek_lm.data.splits import split_lines
from trek_lm.generation.api import CharLM
from trek_lm.runs.folder import BEST, CONFIG

WORD = re.compile(r"[A-Za-z0-9'-]+")
PLACES = ("in other episodes", "in the same only", "nowhere", "between words")


@torch.inference_mode()
def correct(lm: CharLM, lines: list[str]) -> Iterator[list[bool]]:
    """Whether each character after a line's first is predicted; the last is its newline."""
    for at in range(0, len(lines), 128):
        ids = [lm.charset.encode(line + "\n").long() for line in lines[at : at + 128]]
        padded = pad_sequence(ids)  # (T, B)
        right = lm.model(padded[:-1])[0].argmax(-1) == padded[1:]
        for row, line in zip(right.t(), ids, strict=True):
            yield row[: len(line) - 1].tolist()


def place_of(word: str, episode: int, known: dict[str, set[int]]) -> str:
    """The place of a test word; `known`: the episodes whose training lines have a word."""
    episodes = known.get(word, set())
    if not episodes:
        return "nowhere"
    return "in other episodes" if episodes - {episode} else "in the same only"


def rows(folder: Path) -> Iterator[str]:
    """A run's rows of the table."""
    data: TranscriptDataModule = instantiate(OmegaConf.load(folder / CONFIG).data)
    data.prepare_data()
    data.setup()
    episodes = data.corpus.episodes
    splits = split_lines(episodes, data.settings.split, data.settings.fractions, data.settings.seed)
    texts = [line for e in episodes for line in e.text.removesuffix("\n").split("\n")]
    texts = [data.charset.normalise(line)[: data.settings.max_chars] for line in texts]
    ends = list(accumulate(episode.lines for episode in episodes))
    episode_of = torch.bucketize(torch.arange(len(texts)), torch.tensor(ends), right=True).tolist()
    known: dict[str, set[int]] = defaultdict(set)
    for number in splits.train.tolist():
        for word in WORD.findall(texts[number]):
            known[word].add(episode_of[number])
    test = splits.test.tolist()
    right = dict.fromkeys(PLACES, 0)
    seen = dict.fromkeys(PLACES, 0)
    predictions = correct(CharLM.load(folder / BEST), [texts[number] for number in test])
    for number, row in zip(test, predictions, strict=True):
        places = ["between words"] * (len(texts[number]) + 1)
        for word in WORD.finditer(texts[number]):
            place = place_of(word[0], episode_of[number], known)
            places[word.start() : word.end()] = [place] * len(word[0])
        for place, is_right in zip(places[1:], row, strict=True):
            seen[place] += 1
            right[place] += is_right
    total = sum(seen.values())
    for place in PLACES:
        accuracy = f"{right[place] / seen[place]:.4f}" if seen[place] else ""
        yield f"| {folder} | {place} | {seen[place] / total:.4f} | {accuracy} |"
    yield f"| {folder} | all | 1 | {sum(right.values()) / total:.4f} |"


def main() -> None:
    if not sys.argv[1:]:
        sys.exit(f"error: give folders of runs\n{__doc__}")
    print("| run | its word is in training | share | accuracy |")
    print("|---|---|---:|---:|")
    for folder in map(Path, sys.argv[1:]):
        print("\n".join(rows(folder)))


if __name__ == "__main__":
    main()
