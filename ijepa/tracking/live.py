"""Keep the database up to a run that goes on, from a thread of its own."""

import sys
import threading
import time
from pathlib import Path

from ijepa.tracking import mongo, redaction, sync
from ijepa.tracking.mongo import UnavailableError

EVERY = 10.0  # seconds between the syncs of a run that goes on
PATIENCE = 30.0  # seconds that a finished stage waits for its last sync


class Live:
    """Keeps the database up to a run that goes on; it can neither raise nor hang."""

    def __init__(self, home: Path, run_id: int) -> None:
        self._home, self._run_id = home, run_id
        self._stop = threading.Event()
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._work, daemon=True, name="ijepa sync")
        if mongo.url() != "off":
            self._thread.start()

    def finish(self) -> None:
        """Sync once more; say in one line when that did not work."""
        if mongo.url() == "off":
            return
        self._stop.set()
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            self._problem = f"the database needs more than {PATIENCE:g} s"
        if self._problem:
            _note(
                f"run {self._run_id} is not in MongoDB: {self._problem};"
                " the journal has it, `python -m ijepa runs sync` sends it"
            )

    def _work(self) -> None:
        pause, last, told = EVERY, False, False
        while not last:
            last = self._stop.wait(pause)
            start = time.monotonic()
            self._problem = self._attempt()
            if self._problem and not told and not last:
                told = True
                _note(f"MongoDB is not filled now: {self._problem}; the journal is written")
            # a slow database may take a tenth of the time, not more
            pause = max(EVERY, 10 * (time.monotonic() - start))

    def _attempt(self) -> str | None:
        try:
            done = sync.sync(self._home, [self._run_id])
        except UnavailableError as error:
            return str(error)
        except Exception as error:  # even a bug here may not cost a day of training
            return redaction.redact(f"{type(error).__name__}: {error}".splitlines()[0])
        return redaction.redact(done.problems[0]) if done.problems else None


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)
