"""What ``params.yaml`` in the working copy has that the commit's has not.

``dvc exp run -S`` writes its changes there and leaves them, whether the run ends well or not, so
that the next run has them too. That is DVC's way; unseen, one change becomes several.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml.error import YAMLError

from ijepa import presets
from ijepa.config import PARAMS
from ijepa.runtime import errors, files
from ijepa.study import plan

_SHOWN = 6  # changes in a line; a preset has a hundred
_ABSENT = object()


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """``key value (was value)`` of each dotted key whose values differ, in the files' order."""
    old, new = presets.leaves(before), presets.leaves(after)
    return [
        f"{key} {_written(new.get(key, _ABSENT))} (was {_written(old.get(key, _ABSENT))})"
        for key in {**old, **new}
        if old.get(key, _ABSENT) != new.get(key, _ABSENT)
    ]


def _written(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def remark() -> str:
    """How ``params.yaml`` differs from the commit's, in one line; nothing where it does not.

    Nothing either where nobody can tell: without git or a commit, in a folder that no commit has,
    or with a file that is not YAML, which ``config.load`` refuses.
    """
    try:
        committed = files.parse_yaml(plan.git("show", f"HEAD:./{PARAMS}"))
        changes = differences(committed, files.read_yaml(PARAMS))
        commit = plan.git("rev-parse", "--short", "HEAD").strip()
    except (ValueError, YAMLError, AttributeError):  # the last: the commit's is no mapping
        return ""
    if not changes:
        return ""
    more = len(changes) - _SHOWN
    shown = ", ".join(changes[:_SHOWN]) + (
        f" and {more} more (`dvc params diff`)" if more > 0 else ""
    )
    line = f"{PARAMS} differs from HEAD ({commit}) in: {shown}"
    # `--temp` and `--queue` run in a copy, and leave the user's file as it was
    copied = Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve() != Path.cwd()
    return errors.plain(line if copied else f"{line}; `git restore {PARAMS}` starts clean")


def age() -> None:
    """Set the file's time back by two seconds, so that git looks whether it was changed.

    DVC resets the file and writes ``-S`` into it within a second. Git's index has whole seconds
    and the length: a value as long as the commit's went unseen, and ``git restore`` left it.
    """
    times = PARAMS.stat()
    with contextlib.suppress(PermissionError):  # of a team's file, which only its owner can age
        os.utime(PARAMS, ns=(times.st_atime_ns, times.st_mtime_ns - 2 * 10**9))
