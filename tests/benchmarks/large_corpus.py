"""Seconds to read and encode a large corpus, the first time and from the cache.

    python -m tests.benchmarks.large_corpus FOLDER [COPIES]

copies a folder of transcripts COPIES (100) times and sets up a data module on the copies, twice, in
separate processes with a temporary cache.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from trek_lm.data.corpora import FilesSource
from trek_lm.data.datamodule import TranscriptDataModule


def set_up(root: str) -> None:
    """Prints seconds, peak memory and lines of one set-up, without the time of imports."""
    start = time.perf_counter()
    data = TranscriptDataModule(partial(FilesSource, "files"), root=root)
    data.setup()
    seconds = time.perf_counter() - start
    mebibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{seconds:6.1f} s  {mebibytes:6.0f} MiB  {data.corpus.report.lines:,} lines")


def main(folder: str, copies: int = 100) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "corpus"
        for number in range(copies):
            shutil.copytree(folder, root / f"{number:03}")
        size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        print(f"{copies} copies of {folder}: {size / 1e6:.0f} MB")
        for label in ("first time", "from the cache"):
            print(f"{label:15}", end="", flush=True)
            subprocess.run(
                [sys.executable, "-m", "tests.benchmarks.large_corpus", "--set-up", str(root)],
                env={**os.environ, "TREK_LM_CACHE": scratch},
                check=True,
            )


if __name__ == "__main__":
    if sys.argv[1] == "--set-up":
        set_up(sys.argv[2])
    else:
        main(sys.argv[1], *map(int, sys.argv[2:]))
