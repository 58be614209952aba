"""Ends every sweep, failed or not, with its leaderboard."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from trek_lm.cli import first_line
from trek_lm.errors import UserError
from trek_lm.runs.folder import HYDRA
from trek_lm.runs.leaderboard import Leaderboard
from trek_lm.signals import stop_signals
from trek_lm.terminal import printable

_sweeps: list[Path] = []  # the folders of the sweeps that this process started


class Announce(Callback):
    """Hydra callback that records a sweep's folder for `with_leaderboard`.

    The leaderboard isn't made in `on_multirun_end`: Hydra skips that if a member raised an error,
    and turns its errors into warnings.
    """

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        _sweeps.append(Path(str(config.hydra.sweep.dir)))
        stop_signals.install()


def with_leaderboard(main: Callable[[], object]) -> Callable[[], None]:
    """Makes `main` print the leaderboard at the end of a sweep.

    Raises UserError if a member failed or didn't finish.
    """

    def run() -> None:
        try:
            main()
        except Exception as error:
            # A process was killed or a job never started: the launcher's error has many lines.
            if type(error).__module__.split(".")[0] in ("joblib", "submitit", "ray"):
                raise UserError(f"hydra/launcher: {first_line(error)}") from error
            raise
        finally:
            boards = [_leaderboard(folder) for folder in _sweeps]
            _sweeps.clear()
        for board in filter(None, boards):
            if missed := len(board.unfinished):
                raise UserError(f"{missed} of {len(board.rows)} runs did not finish")

    return run


def _leaderboard(folder: Path) -> Leaderboard | None:
    if not any(folder.glob(f"**/{HYDRA}")):  # it ended before its first run started
        return None
    board = Leaderboard.of([folder])
    board.write(folder)
    print(f"\n{printable(board.text(folder))}\nleaderboard: {folder / 'leaderboard.md'}")
    print(f"dashboard:   tensorboard --logdir {shlex.quote(str(folder))}")
    if board.unfinished:
        print(f"continue it: the same command with {shlex.quote(f'hydra.sweep.dir={folder}')}")
    sys.stdout.flush()
    return board
