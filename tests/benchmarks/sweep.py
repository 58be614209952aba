"""The speed-up of a sweep whose members run in parallel.

python -m tests.benchmarks.sweep [KEY=VALUE ...]

Runs the grid of twelve members on the bundled corpus, one epoch each, alternately in sequence and
with hydra/launcher=joblib, and prints the ratio of the seconds.
"""

import subprocess
import sys
import tempfile
import time
from statistics import median

from tests.support.commands import PROJECT

ROUNDS = 2
SETTINGS = ("sweep=grid", "trainer.max_epochs=1")


def seconds(*arguments: str) -> float:
    """Wall-clock seconds of the whole command."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, str(PROJECT / "train.py"), *SETTINGS, *arguments],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return time.perf_counter() - started


if __name__ == "__main__":
    given = sys.argv[1:]
    ratios = []
    for number in range(1, ROUNDS + 1):
        alone = seconds(*given)
        together = seconds(*given, "hydra/launcher=joblib")
        ratios.append(alone / together)
        print(f"round {number}: {alone:.0f} s in sequence, {together:.0f} s in parallel")
    print(f"ratio {median(ratios):.2f} (median of {ROUNDS})")
