"""A sweep as a whole: its leaderboard when it ends, however it ends."""

import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from trek_lm.errors import UserError
from trek_lm.leaderboard import Leaderboard

_sweeps: list[Path] = []  # the folders of those that this process has begun


class Announce(Callback):
    """Hydra's callback that remembers a sweep's folder, for `concluded`.

    The leaderboard isn't made by its `on_multirun_end`: Hydra leaves that out where a member
    raised an error, and makes mere warnings of what goes wrong in it.
    """

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        _sweeps.append(Path(str(config.hydra.sweep.dir)))
        signal.signal(signal.SIGTERM, _leave)


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
                first = str(error).strip().splitlines()[0]
                raise UserError(f"hydra/launcher: {type(error).__name__}: {first}") from error
            raise
        finally:
            boards = [_board(folder) for folder in _sweeps]
            _sweeps.clear()
        for folder, board in filter(None, boards):
            if missed := sum(row.status != "finished" for row in board.rows):
                raise UserError(
                    f"{missed} of {len(board.rows)} runs did not finish; with "
                    f"hydra.sweep.dir={folder} the same command tries them again"
                )

    return run


def _board(folder: Path) -> tuple[Path, Leaderboard] | None:
    try:
        board = Leaderboard.of([folder])
    except UserError:  # ended before its first run began
        return None
    print(f"\n{board.text(folder)}\nleaderboard: {folder / 'leaderboard.md'}")
    print(f"dashboard:   tensorboard --logdir {shlex.quote(str(folder))}", flush=True)
    board.write(folder)
    return folder, board


def _leave(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)
