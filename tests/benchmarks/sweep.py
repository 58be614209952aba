"""How much sooner a sweep ends when its members run side by side.

python -m tests.benchmarks.sweep [KEY=VALUE ...]

The grid of twelve members on the bundled corpus, an epoch each, one after the other and with
hydra/launcher=joblib, by turns; the ratio of the seconds.
"""

import subprocess
import sys
import tempfile
import time
from statistics import median

from tests.conftest import PROJECT

ROUNDS = 2
SETTINGS = ("sweep=grid", "trainer.max_epochs=1")


def seconds(*arguments: str) -> float:
    """From Enter to the prompt."""
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
        print(f"round {number}: {alone:.0f} s one after the other, {together:.0f} s side by side")
    print(f"ratio {median(ratios):.2f} (median of {ROUNDS})")
