"""Training runs as Ray tasks. Ray places them, starts those again whose worker died, and cancels
them; this is the only file that knows it.

A task decides by the run's folder whether it begins or resumes, so Ray may start it as often as it
likes.
"""

import contextlib
import os
import socket
import traceback
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

from rmbpo_fast.config import Config
from rmbpo_fast.errors import ConfigError, RmbpoError
from rmbpo_fast.run import session
from rmbpo_fast.run.stop import StopRequest
from rmbpo_fast.study.sweep.plan import PlannedRun
from rmbpo_fast.study.sweep.trial import Pace, measure

START_MARK = "== start of "
_OBJECT_STORE_BYTES = 80 * 2**20  # nearly Ray's least: settings go out, a line comes back
_CONNECT_S = 5.0


class Outcome(NamedTuple):
    """How a run's task ended: "finished", "stopped" or "failed", and why."""

    state: str
    reason: str = ""


class Share(NamedTuple):
    """What each run has of a machine: CPU threads, and a share of a GPU or several."""

    cpus: int
    gpus: float


@contextlib.contextmanager
def ray_cluster(address: str | None) -> Iterator[dict[str, float]]:
    """Ray on this machine, or the cluster at an address, while the context lasts.

    Yields:
        Its resources by name: CPU, GPU.
    Raises:
        ConfigError: Ray isn't installed, or no cluster is there.
    """
    if find_spec("ray") is None:
        raise ConfigError('a sweep needs Ray: python -m pip install ".[sweep]"')
    # read by Ray at its import: no figures about its use leave the machine unless someone wants it
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # a run without a share of a GPU is told so by --device; Ray needn't hide the GPUs from it
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address is None:
        quiet |= {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    elif address != "auto":
        _check_port(address)
    try:
        ray.init(address=address or "local", **quiet)
    # Ray's own end of a connection that came to nothing is a SystemExit
    except (ConnectionError, ValueError, RuntimeError, SystemExit) as error:
        where = f"--address {address}" if address else "Ray on this machine"
        raise ConfigError(f"{where}: can't start or join it ({error})") from error
    try:
        yield ray.cluster_resources()
    finally:
        ray.shutdown()


def _check_port(address: str) -> None:
    """Ray alone takes minutes to give up on an address where nobody listens."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"--address {address}: expected auto or host:port")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--address {address}: nobody answers there ({error})") from error


def _train_task(run: PlannedRun) -> Outcome:
    """A worker's whole life. Raises what training raised; Ray then starts it again."""
    with (
        open(run.log, "a", buffering=1) as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        print(f"{START_MARK}{run.name} on {socket.gethostname()}, process {os.getpid()}")
        try:
            ended = session.run(run.starting_config())
        except ConfigError as error:  # it would be refused again
            print(f"error: {error}")
            return Outcome("failed", str(error))
        except Exception:
            traceback.print_exc()
            raise
    return Outcome("finished" if ended.signal is None else "stopped")


def _trial_task(config: Config) -> Pace:
    device, _ = session.set_up_machine(config)
    return measure(config, device)


def _remote(function: Callable[..., Any], share: Share, retries: int) -> Any:
    import ray

    return ray.remote(
        num_cpus=share.cpus,
        num_gpus=share.gpus,
        max_retries=retries,
        retry_exceptions=retries > 0,
    )(function)


def time_parts(config: Config, share: Share) -> Pace:
    """A trial on a worker of the kind that the runs will have.

    Raises:
        RmbpoError: what a run with these settings would raise.
    """
    import ray

    try:
        pace: Pace = ray.get(_remote(_trial_task, share, 0).remote(config))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, RmbpoError):
            raise error.cause from error
        raise
    return pace


def _outcome(reference: Any, attempts: int) -> Outcome:
    import ray

    try:
        outcome: Outcome = ray.get(reference)
    except ray.exceptions.TaskCancelledError:
        return Outcome("stopped")
    except ray.exceptions.RayTaskError as error:
        reason = f"{type(error.cause).__name__}: {error.cause}"
        return Outcome("failed", f"{' '.join(reason.split())} ({attempts} starts)")
    except ray.exceptions.RayError as error:  # its worker or node was lost too often
        first_line = str(error).strip().splitlines()[0]
        return Outcome("failed", f"{first_line} ({attempts} starts)")
    return outcome


def train_all(
    runs: Sequence[PlannedRun],
    share: Share,
    retries: int,
    stop: StopRequest,
    watch: Callable[[dict[str, Outcome]], None],
) -> None:
    """Trains every run, until all have ended or a stop was asked for and the running ones saved.

    Args:
        runs: in the order of their start.
        retries: how often a run is started again whose worker died or whose training failed.
        watch: called about twice a second with how runs have ended so far, by name.
    """
    import ray

    task = _remote(_train_task, share, retries)
    names = {task.options(name=run.name).remote(run): run.name for run in runs}
    ended: dict[str, Outcome] = {}
    pending, cancelled = list(names), False
    while pending:
        ready, pending = ray.wait(pending, num_returns=len(pending), timeout=0.5)
        for reference in ready:
            ended[names[reference]] = _outcome(reference, retries + 1)
        if stop.signal is not None and not cancelled:
            cancelled = True
            # a run in progress takes this as Ctrl-C: it ends its step and saves
            for reference in pending:
                ray.cancel(reference, force=False)
        watch(ended)
