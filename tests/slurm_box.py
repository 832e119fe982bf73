"""A real Slurm on this machine for the tests: two nodes, loopback alone, nothing outlives it."""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")

# Two nodes of two cores that do not have to exist, one host name, a port each. No cgroups, no
# accounting database, no launch of steps: what is left is the queue. Jobs of `high` take the place
# of those of `low`, which go back into the queue.
CONF = """\
ClusterName=box
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
SlurmctldParameters=preempt_send_user_signal
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait={wait}
OverTimeLimit=0
ReturnToService=2
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[0]} CPUs=2
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2
PartitionName=low Nodes=n1,n2 Default=YES PriorityTier=1 GraceTime={wait} MaxTime=60
PartitionName=high Nodes=n1,n2 PriorityTier=2 PreemptMode=OFF MaxTime=60
"""


def missing() -> str:
    """Why there can be no Slurm here, or the empty string."""
    absent = [name for name in PROGRAMS if not shutil.which(name)]
    if absent:
        return f"no {', '.join(absent)} (Debian: apt install slurmctld slurmd slurm-client munge)"
    return "" if os.getuid() == 0 else "slurmd runs jobs as root alone"


@contextlib.contextmanager
def box(wait: int = 20) -> Iterator[dict[str, str]]:
    """Start Slurm, stop it at the end with all its jobs.

    Args:
        wait: seconds between SIGTERM and SIGKILL for a job that has to go.

    Yields:
        The variables under which Slurm's commands find it.
    """
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # short: the path of a socket has 107 bytes
    env = {"SLURM_CONF": str(folder / "slurm.conf")}
    daemons: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> None:
        with (folder / f"{command[0]}.out").open("ab") as out:
            daemons.append(
                subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    env={**os.environ, **env},
                    start_new_session=True,
                    preexec_fn=_die_with_parent,
                )
            )

    previous = signal.signal(signal.SIGTERM, _end)  # or no `finally` would see it
    try:
        folder.chmod(0o755)
        (folder / "state").mkdir()
        for node in ("n1", "n2"):
            (folder / node).mkdir()
        _configure(folder, wait)
        start(
            "munged", "--foreground", "--force", f"--key-file={folder}/munge.key",
            f"--socket={folder}/munge.socket", f"--pid-file={folder}/munge.pid",
            f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed",
        )  # fmt: skip
        until(lambda: (folder / "munge.socket").exists(), 20, "munged")
        start("slurmctld", "-D", "-c")
        start("slurmd", "-D", "-N", "n1")
        start("slurmd", "-D", "-N", "n2")
        until(
            lambda: ask(env, "sinfo", "-h", "-N", "-p", "low", "-o", "%T").split() == ["idle"] * 2,
            60,
            "two idle nodes",
        )
        yield env
    finally:
        _stop(env, daemons)
        shutil.rmtree(folder, ignore_errors=True)
        signal.signal(signal.SIGTERM, previous)


def _configure(folder: Path, wait: int) -> None:
    """The cluster's configuration, its ports ones that are free now, and munge's key."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        port, *ports = (one.getsockname()[1] for one in sockets)
    host = socket.gethostname().partition(".")[0]
    conf = CONF.format(folder=folder, host=host, port=port, ports=ports, wait=wait)
    (folder / "slurm.conf").write_text(conf)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)


def _stop(env: dict[str, str], daemons: Sequence[subprocess.Popen[bytes]]) -> None:
    """Jobs first, the daemons they need next, munged last: without it no job can say goodbye."""
    with contextlib.suppress(subprocess.SubprocessError, TimeoutError):
        ask(env, "scancel", "--user=root", "--signal=KILL", "--full")
        ask(env, "scancel", "--user=root")
        until(lambda: not ask(env, "squeue", "-h"), 30, "an empty queue")
    for daemon in reversed(daemons):
        daemon.terminate()
        try:
            daemon.wait(20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def ask(env: dict[str, str], *command: str) -> str:
    """What one of Slurm's commands prints."""
    done = subprocess.run(
        command, env={**os.environ, **env}, capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout


def until(true: Callable[[], object], seconds: float, what: str) -> None:
    """Wait for something to become true; a command that fails is a no."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(subprocess.SubprocessError):
            if true():
                return
        time.sleep(0.2)
    raise TimeoutError(f"no {what} within {seconds} s")


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def _die_with_parent() -> None:
    """Even kill -9 of the tests leaves no daemon behind."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, int(signal.SIGKILL))
