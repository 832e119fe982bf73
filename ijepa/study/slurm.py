"""Run the jobs of a plan as an array of a Slurm cluster that shares this checkout's files."""

import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ijepa.runtime import environment, errors, files, launch
from ijepa.study import job

JOB = (sys.executable, "-m", "ijepa.study.job")

_PAUSE = 2.0  # seconds between looks at the queue
_PATIENCE = 60.0  # seconds without an answer from Slurm before the user hears of it
_ENDED = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
    "PREEMPTED", "TIMEOUT",
}  # fmt: skip
# Why a job may wait that will run one day; anything else the user has to know.
_USUAL = {"None", "Resources", "Priority", "BeginTime", "JobArrayTaskLimit", "Cleaning"}

# `set -m` gives the job a process group of its own. Slurm's warning (--signal=B:TERM) comes to
# this shell alone, which hands it on and waits: the job saves and leaves. Slurm takes a job that
# leaves before its time for an ended one, so it is put back into the queue here; a job that was
# cancelled, or is in the queue again, is not RUNNING. The number of returns is limited, for a job
# whose time is too short for its smallest step would never end.
_SCRIPT = """\
#!/bin/bash
# One job of {plan}, written by ijepa.study.slurm.
set -m
task="${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"  # SLURM_JOB_ID may mean the whole array
processes=${{IJEPA_PROCESSES:-0}}
[ "$processes" != 0 ] || processes=${{SLURM_GPUS_ON_NODE:-1}}
threads=$(( ${{SLURM_CPUS_PER_TASK:-$SLURM_CPUS_ON_NODE}} / processes ))
[ "$threads" -gt 0 ] || threads=1
[ "${{IJEPA_THREADS:-0}}" != 0 ] || export IJEPA_THREADS=$threads
export OMP_NUM_THREADS="${{OMP_NUM_THREADS:-$IJEPA_THREADS}}"
stopped= child=
trap 'stopped=yes; [ -z "$child" ] || kill -TERM -- "-$child"' TERM
{command} "$SLURM_ARRAY_TASK_ID" &
child=$!
[ -z "$stopped" ] || kill -TERM -- "-$child"
while wait "$child"; status=$?; kill -0 "$child" 2>/dev/null; do :; done  # a trap ends a wait
if [ -n "$stopped" ] && [ "$status" -ne 0 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt 100 ] &&
    [ "$(squeue --noheader --jobs="$task" --format=%T)" = RUNNING ]; then
    exec scontrol requeue "$task"
fi
exit "$status"
"""


def run(
    plan: Path, count: int, jobs: int, poll: Callable[[], None], command: Sequence[str] = JOB
) -> None:
    """Run every job of a plan as one array, ``jobs`` at a time; one that fails stops no other.

    Jobs inherit this environment; options of sbatch (partition, time, GPUs) come from
    ``IJEPA_SBATCH``. A job that Slurm preempts, whose node dies or whose time is up goes back into
    the queue and continues from its checkpoint. Any exception here, SIGTERM included, cancels the
    array; a kill -9 of this process leaves it in the queue.

    Args:
        plan: the plan file, in a folder that all nodes share: each of its ``jobs`` has a ``name``
            and the path of its ``result``.
        count: its number of jobs.
        jobs: how many run at once.
        poll: called every two seconds and once at the end.
        command: what runs one job; it gets the plan and the job's index.

    Raises:
        ValueError: there is no sbatch, or ``IJEPA_SBATCH`` is not fit to use.
        Failure: sbatch refuses the array, or jobs ended and left no result.
    """
    group = files.read_json(plan)["jobs"][:count]
    before = [job.written(one) for one in group]
    logs = plan.resolve().with_suffix("")
    submission = _submission(plan, count, jobs, command, logs)
    with launch.raising():
        array = _submit(submission)
        try:
            print(f"Slurm array {array}: `squeue --jobs={array}`, output in {logs}", flush=True)
            states = _watch(array, group, poll)
        except BaseException:
            _cancel(array)
            raise
        finally:
            poll()
    lost = [
        f"{one['name']} ({array}_{index} {states.get(index, 'never seen')})"
        for index, one in enumerate(group)
        if not (now := job.written(one))
        or (now == before[index] and states.get(index) != "COMPLETED")
    ]
    if lost:
        raise errors.Failure(
            f"Slurm: {len(lost)} of {count} jobs left no result: {', '.join(lost)};"
            f" their output is in {logs}"
        )


def _submission(
    plan: Path, count: int, jobs: int, command: Sequence[str], logs: Path
) -> list[str]:
    """Write the batch script; returns the command that submits it."""
    if not shutil.which("sbatch"):
        raise ValueError("--runner: 'slurm', but there is no sbatch on this machine")
    try:
        options = shlex.split(environment.text("IJEPA_SBATCH"))
    except ValueError as error:
        raise ValueError(f"IJEPA_SBATCH: {error}") from None
    logs.mkdir(parents=True, exist_ok=True)
    script, one = logs / "slurm.sh", shlex.join([*command, str(plan.resolve())])
    script.write_text(_SCRIPT.format(plan=plan.name, command=one))
    output = str(logs).replace("%", "%%") + "/slurm-%A_%a.out"
    return [
        "sbatch", "--parsable", "--requeue", f"--array=0-{count - 1}%{jobs}",
        "--signal=B:TERM@60", "--export=ALL", f"--chdir={Path.cwd()}", f"--job-name={logs.name}",
        f"--output={output}", "--open-mode=append",  # a job that starts again goes on writing
        *options, str(script),
    ]  # fmt: skip


def _submit(command: Sequence[str]) -> str:
    """Submit; returns the array's id."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line.removeprefix("sbatch: error: ") for line in done.stderr.splitlines()]
        raise errors.Failure(f"sbatch: {'; '.join(lines)}")
    return done.stdout.strip().partition(";")[0]  # "id;cluster" where there are several


def _watch(
    array: str, group: Sequence[Mapping[str, Any]], poll: Callable[[], None]
) -> dict[int, str]:
    """Wait until no job of the array is left; returns the last known state of each."""
    states: dict[int, str] = {}
    told: set[str] = set()
    answered = time.monotonic()
    while True:
        poll()
        queue = _queue(array)
        if queue is None:
            if time.monotonic() - answered > _PATIENCE and "no answer" not in told:
                told.add("no answer")
                print(f"note: squeue does not answer; array {array} goes on", file=sys.stderr)
        else:
            answered = time.monotonic()
            for index, (state, reason) in queue.items():
                states[index] = state
                if state == "PENDING" and reason not in _USUAL | told:
                    told.add(reason)
                    print(f"note: {group[index]['name']} waits: {reason}", file=sys.stderr)
            # Slurm forgets ended jobs after a while: what is not in the queue has ended, too
            if all(state in _ENDED for state, _ in queue.values()):
                gone = {i: f"gone, last seen {state}" for i, state in states.items()
                        if i not in queue and state not in _ENDED}  # fmt: skip
                return states | gone
        time.sleep(_PAUSE)


def _queue(array: str) -> dict[int, tuple[str, str]] | None:
    """State and reason of the jobs that Slurm still knows, by index; None without an answer."""
    done = subprocess.run(
        ["squeue", "--noheader", "--array", "--states=all", f"--jobs={array}",
         "--format=%K|%T|%r"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return {} if "Invalid job id" in done.stderr else None
    queue = {}
    for line in done.stdout.splitlines():
        index, state, reason = line.split("|", 2)
        queue[int(index)] = (state, reason)
    return queue


def _cancel(array: str) -> None:
    """Take the array out of the queue; its running jobs save what they have."""
    done = subprocess.run(["scancel", array], capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"note: cancel array {array} yourself: {done.stderr.strip()}", file=sys.stderr)
    else:
        print(f"Slurm array {array} is cancelled", file=sys.stderr)
