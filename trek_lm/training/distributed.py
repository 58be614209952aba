"""One run in several processes, its ranks: started, watched and ended by torch's elastic agent.

Not by Lightning's own launcher, whose further processes run the command line again: under `-m`
that is the whole sweep's. Nor is anything of the first rank left in this process's environment.
"""

import logging
import os
import pkgutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.nn.functional import pad

from trek_lm import cli
from trek_lm.errors import DivergedError, UserError
from trek_lm.signals import Stopped

if TYPE_CHECKING:  # in a new rank Lightning may be imported only once `_rank` runs, see there
    import pytorch_lightning as pl

_is_rank = False  # whether this process is one that `launch` has started

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def processes_to_start(trainer: "pl.Trainer", *, share_folder: bool) -> int:
    """How many processes must be started here for a run; 0: this one is enough, or one of them.

    `share_folder`: whether processes that others start would all find the same run folder. Raises
    UserError where they wouldn't, and where a run over several machines wasn't started on them.
    """
    from pytorch_lightning.strategies import DDPStrategy

    if trainer.world_size == 1 or _is_rank:
        return 0
    if not isinstance(trainer.strategy, DDPStrategy):
        raise UserError(f"trainer.devices={trainer.num_devices}: choose trainer=ddp for several")
    assert trainer.strategy.cluster_environment is not None
    if trainer.strategy.cluster_environment.creates_processes_externally:
        if not share_folder:
            raise UserError("under torchrun or srun give hydra.run.dir=FOLDER, one for all ranks")
        return 0
    if trainer.num_nodes > 1:
        raise UserError(
            f"trainer.num_nodes={trainer.num_nodes}: start the same command on each of them, "
            "with torchrun or srun"
        )
    return trainer.num_devices


def launch(function: str, config: DictConfig, ranks: int) -> None:
    """Calls `package.module:function` with `config` in as many processes.

    If one ends badly all are ended. Raises UserError for a user's mistake in any of them and for
    a rank that died, RuntimeError with its traceback for any other error.
    """
    from hydra.core.hydra_config import HydraConfig
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in ("torch.distributed.elastic", "torch.multiprocessing.spawn"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what ended is told in one line
    agent = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        run_id=str(os.getpid()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
    )
    try:
        with _as_it_was():
            # So many processes with as many threads each would be in each other's way.
            threads = max(1, torch.get_num_threads() // ranks)
            os.environ.setdefault("OMP_NUM_THREADS", str(threads))
            elastic_launch(agent, _rank)(function, config, HydraConfig.instance().cfg)
    except SignalException as stopped:
        raise Stopped(stopped.sigval) from stopped
    except ChildFailedError as error:
        told = _told(error, ranks)
        raise told from told.__cause__


def _rank(function: str, config: DictConfig, hydra: DictConfig) -> None:
    """One of the processes: the job that Hydra has set up, but for what it sets up here."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.utils import configure_log, setup_globals

    global _is_rank
    _is_rank = True
    os.setpgrp()  # a terminal's Ctrl-C comes from the first process alone, once
    setup_globals()
    HydraConfig.instance().cfg = hydra  # type: ignore[assignment]
    if os.environ["RANK"] == "0":
        configure_log(hydra.hydra.job_logging, hydra.hydra.verbose)
    # Only now: Lightning reads the rank from the environment when it is imported.
    try:
        pkgutil.resolve_name(function)(config)
    except Exception as error:  # of its kind only the outermost one's name reaches the agent
        message = cli.user_message(error)
        if message is None or isinstance(error, UserError):
            raise
        raise UserError(message) from error


def _told(error: Any, ranks: int) -> Exception:
    """The error that made the ranks end, as one of this process."""
    # Where one has died, others fail at talking to it, and may be seen to before it is.
    for rank, failure in error.failures.items():
        if isinstance(failure.message, str) and failure.exitcode != -signal.SIGTERM:
            how = failure.signal_name() if failure.exitcode < 0 else f"exit {failure.exitcode}"
            return UserError(f"rank {rank} of {ranks} died ({how})")
    messages = [f.message for f in error.failures.values() if isinstance(f.message, dict)]
    for message in messages:
        kind, _, text = message["message"].partition(": ")
        for mistake in (UserError, DivergedError):
            if kind == mistake.__name__:
                told = mistake(text)
                told.__cause__ = _traceback(message)
                return told
    _, failure = error.get_first_failure()
    return _traceback(failure.message)


def _traceback(message: Any) -> RuntimeError:
    return RuntimeError(f"in a rank:\n{message['extraInfo']['py_callstack']}")


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Leaves signal handlers and environment as they were: the next member needs them so."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    environment = dict(os.environ)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.environ.clear()
        os.environ.update(environment)


def mean_over_ranks(gradient: Tensor) -> Tensor:
    """The mean of a sparse `(R, V)` over all ranks, each of which has rows of its own.

    Torch's own way, which DistributedDataParallel takes, ends now and then with a segmentation
    fault between CPUs (gloo, torch 2.13) and isn't there between GPUs (NCCL).
    """
    own = gradient.coalesce()
    rows, values = own.indices()[0], own.values()  # (N,), (N, V)
    most = int(max(_gathered(torch.tensor([len(rows)], device=rows.device))))
    missing = most - len(rows)
    # Filled up with zeros for row 0.
    rows = _gathered(pad(rows, (0, missing)))
    values = _gathered(pad(values, (0, 0, 0, missing))) / torch.distributed.get_world_size()
    return torch.sparse_coo_tensor(rows[None], values, gradient.shape, check_invariants=False)


def _gathered(own: Tensor) -> Tensor:
    """That of every rank, all of one shape, one after the other."""
    parts = [torch.empty_like(own) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, own.contiguous())
    return torch.cat(parts)
