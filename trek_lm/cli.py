"""What train.py and sample.py share: --help, quoted text overrides, one-line errors, exit codes."""

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
from trek_lm.overrides import (
    check_added,
    check_config,
    check_names,
    quote_text,
    refusal,
    unknown_key,
)
from trek_lm.terminal import printable

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # as in shells: 128 + the signal's number
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
    """Calls a Hydra main with its text arguments quoted, and prints an error as one line.

    `rewrite` changes the typed arguments before they are quoted. An error that the user can fix
    exits with code 2; HYDRA_FULL_ERROR=1 in the environment shows its traceback.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra catches errors and prints many lines
    if sys.stdout is None:  # closed with `>&-`
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  (open until the process ends)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # the terminal's encoding may lack a character
    try:
        if {"-h", "--help"} & set(sys.argv):
            print(help_text(Path(sys.argv[0]).stem))
            return
        # Hydra's parser accepts no option between two overrides, so -m moves to the front.
        sys.argv[1:] = sorted(sys.argv[1:], key=lambda given: given not in ("-m", "--multirun"))
        check_names(sys.argv[1:])
        check_added(sys.argv[1:])
        sys.argv[1:] = quote_text(rewrite(sys.argv[1:]), text_keys)
        main()
    except (Exception, KeyboardInterrupt) as error:
        exit_with_error(error)


def job(function: Callable[[DictConfig], R]) -> Callable[[DictConfig], R]:
    """Handles errors inside one Hydra job, before Hydra adds lines to them.

    In a sweep it re-raises them: Hydra then runs the other jobs first.
    """

    @functools.wraps(function)
    def wrapped(config: DictConfig) -> R:
        try:
            check_config(config)
            result = function(config)
            sys.stdout.flush()  # raises BrokenPipeError here, where it is handled
            return result
        except (Exception, KeyboardInterrupt) as error:
            from hydra.core.hydra_config import HydraConfig
            from hydra.types import RunMode

            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise
            exit_with_error(error)

    return wrapped


def exit_with_error(error: BaseException) -> NoReturn:
    """Prints one line and exits for an error that the user can fix; raises any other."""
    if isinstance(error, BrokenPipeError):  # the reader, such as `| head`, has closed the pipe
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
    """The one-line message for an error that a user can cause; None for any other."""
    # Imported here, where an error has occurred: above they would slow down every start.
    from hydra.errors import HydraException, InstantiationException
    from omegaconf.errors import OmegaConfBaseException

    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    for link in chain:
        if isinstance(link, UserError):
            return str(link)
    if isinstance(error, InstantiationException):
        # A library's class refused a value, as an optimizer does with optim.lr=-1.
        key = re.search(r"full_key: (\S+)", str(error))
        where = f"set in {key[1]}" if key else "--cfg job shows the config"
        return f"{_one_line(chain[-1])} ({where})"
    if _is_refusal(error):
        return _one_line(error)
    if isinstance(error, OSError) and error.filename:  # no permission, a full disk, a long name
        name = error.filename  # TensorBoard's errors have it as bytes
        return f"{os.fsdecode(name) if isinstance(name, bytes) else name}: {error.strerror}"
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:  # a library named no file
        return f"{Path.cwd()}: {error.strerror}"
    if isinstance(error, HydraException | OmegaConfBaseException):
        named = re.search(r"Could not (find|override) '([\w./]+)'", str(error))
        if named and (retired := refusal(named[2].replace("/", "="))):  # in a user's own file
            return retired
        if named and named[1] == "override" and (text := unknown_key(named[2])):
            return text
        hint = "" if len(chain) == 1 else f" ({_one_line(chain[-1])})"
        missing = re.search(r"Could not find 'hydra/launcher/(\w+)'", str(error))
        if missing and (extra := LAUNCHERS.get(missing[1])):
            hint += f"; install it with: pip install -e '.[{extra}]'"
        return _one_line(error) + hint
    # By name: torch may not be imported, and its OutOfMemoryError is for GPUs only.
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or re.search("OutOfMemoryError|can't allocate memory", said):
        return "out of memory; try a smaller model.hidden, model.match_rows or data.batch_size"
    return None


def _is_refusal(error: BaseException) -> bool:
    """Whether Hydra or Lightning raised this error because it refused a value of the config."""
    # By name: importing the class would import torch.
    if type(error).__name__ == "MisconfigurationException":
        return True
    frames = list(traceback.walk_tb(error.__traceback__))
    raised_in = str(frames[-1][0].f_globals.get("__name__")) if frames else ""
    named = raised_in.startswith(("hydra.", "pytorch_lightning."))
    return named and type(error) in (ValueError, TypeError)


def first_line(error: BaseException) -> str:
    """The type and the first line of an error."""
    return f"{type(error).__name__}: {error}".splitlines()[0].rstrip(": ")


def _one_line(error: BaseException) -> str:
    text = re.split(r"\n\s*Config search path", str(error))[0]
    return re.sub(r"\s*\n\s*", "; ", text.strip())
