"""A small corpus and the data module that reads it."""

from functools import partial
from pathlib import Path
from typing import Any

from trek_lm.data.corpora import FilesSource
from trek_lm.data.datamodule import TranscriptDataModule


def write_episodes(folder: Path, episodes: int = 10, lines: int = 12) -> Path:
    """A small corpus in the transcripts' format; no two lines are the same."""
    folder.mkdir(parents=True, exist_ok=True)
    for episode in range(1, episodes + 1):
        speech = "".join(
            f"{('ADA', 'BRAN')[n % 2]}: Reading {n} of watch {episode}, all {'well' * (n % 4)}.\n"
            for n in range(lines)
        )
        text = f"Episode Number: {episode}\nThe Test Transcripts - Watch\n[Bridge]\n{speech}"
        (folder / f"{episode}.txt").write_text(text, encoding="utf-8")
    return folder


def data_from(root: Path, **options: Any) -> TranscriptDataModule:
    data = TranscriptDataModule(partial(FilesSource, "files"), root=str(root), **options)
    data.prepare_data()
    data.setup()
    return data
