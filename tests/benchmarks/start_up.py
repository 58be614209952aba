"""Start-up times: `python -m tests.benchmarks.start_up` prints medians of five runs.

Seconds from the start of the process to the end of `--help`, to the end of the first training
step on the bundled corpus, and to the first line of a sample from the model trained there.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from pytorch_lightning.callbacks import Callback

PROJECT = Path(__file__).resolve().parents[2]
STEPPED = "first step done"


class FirstStep(Callback):
    """Prints a line after each training step; the first one counts."""

    def on_train_batch_end(self, *_: Any) -> None:
        print(STEPPED, flush=True)


def seconds_until(text: str, script: str, *arguments: str, cwd: Path) -> float:
    """Seconds from the process's start to the first printed line that contains `text`."""
    started = time.perf_counter()
    command = [sys.executable, str(PROJECT / script), *arguments]
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = None
        for line in process.stdout:
            if found is None and text in line:
                found = time.perf_counter() - started
    if found is None:
        raise RuntimeError(f"{script} {' '.join(arguments)} never printed {text!r}")
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train = (
            "trainer.max_epochs=1",
            "+callbacks.first_step._target_=tests.benchmarks.start_up.FirstStep",
        )
        waits = {
            "--help": ("tensorboard --logdir", "train.py", "--help"),
            "first training step": (STEPPED, "train.py", *train),
            "first sampled line": (":", "sample.py", "n=1"),
        }
        for what, wait in waits.items():
            seconds = median(seconds_until(*wait, cwd=folder) for _ in range(5))
            print(f"{what:<20} {seconds:5.1f} s")


if __name__ == "__main__":
    main()
