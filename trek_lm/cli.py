"""What both entry points share: --help, overrides as they were typed, and one-line errors."""

import errno
import functools
import io
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

from omegaconf import DictConfig

from trek_lm.errors import UserError
from trek_lm.help import help_text
from trek_lm.overrides import check_config, check_names, quote_text, refusal
from trek_lm.terminal import printable

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # as shells have it: 128 and the signal's number
EXIT_CLOSED_PIPE = 141
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)
LAUNCHERS = {"joblib": "sweep", "submitit_local": "slurm", "submitit_slurm": "slurm", "ray": "ray"}
SHOW_TRACEBACKS = os.environ.get("HYDRA_FULL_ERROR") == "1"

R = TypeVar("R")
Arguments = list[str]


def run(
    main: Callable[[], object],
    text_keys: Sequence[str],
    rewrite: Callable[[Arguments], Arguments] = list,
) -> None:
    """Calls a Hydra main with its text arguments quoted and its errors on one line each.

    `rewrite` turns the arguments typed into those that are quoted. What a user can put right
    leaves with exit code 2; with HYDRA_FULL_ERROR=1 in the environment the traceback is shown.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra catches errors and prints many lines
    if sys.stdout is None:  # closed, `>&-`
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  (as long as the process)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may lack a character of a corpus
    try:
        if {"-h", "--help"} & set(sys.argv):
            print(help_text(Path(sys.argv[0]).stem))
            return
        # Hydra's parser takes overrides in one piece, whatever stands between them.
        sys.argv[1:] = sorted(sys.argv[1:], key=lambda given: given not in ("-m", "--multirun"))
        check_names(sys.argv[1:])
        sys.argv[1:] = quote_text(rewrite(sys.argv[1:]), text_keys)
        main()
    except (Exception, KeyboardInterrupt) as error:
        leave(error)


def job(function: Callable[[DictConfig], R]) -> Callable[[DictConfig], R]:
    """Does the same around a single job, to whose errors Hydra would add a line of its own.

    In a sweep the error goes on to Hydra instead, which runs the other members first.
    """

    @functools.wraps(function)
    def wrapped(config: DictConfig) -> R:
        try:
            check_config(config)
            result = function(config)
            sys.stdout.flush()  # a reader that has left is noticed here, not at the very end
            return result
        except (Exception, KeyboardInterrupt) as error:
            from hydra.core.hydra_config import HydraConfig
            from hydra.types import RunMode

            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise
            leave(error)

    return wrapped


def leave(error: BaseException) -> NoReturn:
    """Ends the process as its user would expect: with a line for what can be put right."""
    if isinstance(error, BrokenPipeError):  # `| head` has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_CLOSED_PIPE)
    if isinstance(error, KeyboardInterrupt):
        sys.exit(EXIT_INTERRUPTED)
    message = user_message(error)
    if message is None or SHOW_TRACEBACKS:
        raise error
    print(f"error: {printable('; '.join(message.splitlines()))}", file=sys.stderr)
    sys.exit(EXIT_USER_ERROR)


def user_message(error: BaseException) -> str | None:
    """One line for an error that a user can cause, None for any other."""
    # Looked up by the time an error is there: importing them costs start-up time.
    from hydra.errors import HydraException, InstantiationException
    from omegaconf.errors import OmegaConfBaseException

    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    for link in chain:
        if isinstance(link, UserError):
            return str(link)
    if isinstance(error, InstantiationException):
        # A value that a library's class refuses, such as optim.lr=-1 by an optimizer.
        key = re.search(r"full_key: (\S+)", str(error))
        where = f"set in {key[1]}" if key else "see the config with --cfg job"
        return f"{_one_line(chain[-1])} ({where})"
    if _is_refusal(error):
        return _one_line(error)
    if isinstance(error, OSError) and error.filename:  # no permission, a full disk, a long name
        name = error.filename  # in bytes by TensorBoard
        return f"{os.fsdecode(name) if isinstance(name, bytes) else name}: {error.strerror}"
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:  # of a library's writer
        return f"{Path.cwd()}: {error.strerror}"
    if isinstance(error, HydraException | OmegaConfBaseException):
        named = re.search(r"Could not (?:find|override) '([\w./]+)'", str(error))
        if named and (retired := refusal(named[1].replace("/", "="))):  # in a file of the user's
            return retired
        hint = "" if len(chain) == 1 else f" ({_one_line(chain[-1])})"
        missing = re.search(r"Could not find 'hydra/launcher/(\w+)'", str(error))
        if missing and (extra := LAUNCHERS.get(missing[1])):
            hint += f"; pip install -e '.[{extra}]' brings it"
        return _one_line(error) + hint
    # By name: torch's own class is for GPUs alone, and torch may not have been imported.
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or re.search("OutOfMemoryError|can't allocate memory", said):
        return "out of memory; try a smaller model.hidden, model.match_rows or data.batch_size"
    return None


def _is_refusal(error: BaseException) -> bool:
    """Whether a library that is handed values of the config says itself what is wrong with one."""
    # By name: importing it would import torch.
    if type(error).__name__ == "MisconfigurationException":
        return True
    frames = list(traceback.walk_tb(error.__traceback__))
    raised_in = str(frames[-1][0].f_globals.get("__name__")) if frames else ""
    named = raised_in.startswith(("hydra.", "pytorch_lightning."))
    return named and type(error) in (ValueError, TypeError)


def first_line(error: BaseException) -> str:
    """What any error says, cut short."""
    return f"{type(error).__name__}: {error}".splitlines()[0].rstrip(": ")


def _one_line(error: BaseException) -> str:
    text = re.split(r"\n\s*Config search path", str(error))[0]
    return re.sub(r"\s*\n\s*", "; ", text.strip())
