"""A sweep as a whole: its leaderboard when it ends, however it ends."""

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

_sweeps: list[Path] = []  # the folders of those that this process has begun


class Announce(Callback):
    """Hydra's callback that remembers a sweep's folder, for `concluded`.

    The leaderboard isn't made by its `on_multirun_end`: Hydra leaves that out where a member
    raised an error, and makes mere warnings of what goes wrong in it.
    """

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        _sweeps.append(Path(str(config.hydra.sweep.dir)))
        stop_signals.install()


def concluded(main: Callable[[], object]) -> Callable[[], None]:
    """A main that, where it was a sweep, ends with the leaderboard.

    Raises UserError where a member has failed or not come to its end.
    """

    def run() -> None:
        try:
            main()
        except Exception as error:
            # A process was killed, a job never started: their own errors are many lines.
            if type(error).__module__.split(".")[0] in ("joblib", "submitit", "ray"):
                raise UserError(f"hydra/launcher: {first_line(error)}") from error
            raise
        finally:
            boards = [_board(folder) for folder in _sweeps]
            _sweeps.clear()
        for board in filter(None, boards):
            if missed := len(board.unfinished):
                raise UserError(f"{missed} of {len(board.rows)} runs did not finish")

    return run


def _board(folder: Path) -> Leaderboard | None:
    if not any(folder.glob(f"**/{HYDRA}")):  # ended before its first run began
        return None
    board = Leaderboard.of([folder])
    board.write(folder)
    print(f"\n{printable(board.text(folder))}\nleaderboard: {folder / 'leaderboard.md'}")
    print(f"dashboard:   tensorboard --logdir {shlex.quote(str(folder))}")
    if board.unfinished:
        print(f"continue it: the same command with {shlex.quote(f'hydra.sweep.dir={folder}')}")
    sys.stdout.flush()
    return board
