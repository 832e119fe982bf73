"""Negative controls: faults that the trials must see. Each one that does not fire is a loss.

A table without them would be as clean if nothing were looked at.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch

from ijepa.training import checkpoint, loop
from torture import damage, database, kills
from torture.place import Place
from torture.states import READERS, Reader, must, outputs, reading, start
from torture.trials import Trial


def nothing(place: Place) -> bool:
    """An undisturbed run has the same bytes again: else every trial would be lost."""
    return not differs(place, READERS["train"])


def agree(place: Place) -> bool:
    """Resumed, or with features and probes from the caches, the bytes are the same."""
    pairs = ("train", "resume"), ("evaluate", "probe"), ("evaluate", "evaluate again")
    return all(
        reading(place, one).outputs == reading(place, other).outputs for one, other in pairs
    )


def ranks_agree(place: Place) -> bool:
    """Two processes give what one does: both are the undisturbed run of the kinds about ranks."""
    return reading(place, "pretrain").outputs == reading(place, "ranks").outputs


def another_seed(place: Place) -> bool:
    return differs(place, READERS["train"], lambda: place.write_params(seed=1))


def drop(part: str) -> Callable[[Place], bool]:
    """A checkpoint that is resumed without a part of its state."""

    def control(place: Place) -> bool:
        def load(path: Any, device: torch.device) -> Any:
            state = whole(path, device)
            if part == "optimizer":
                state["optimizer"]["state"] = {}
            if part == "target encoder":
                weights = state["objective"]
                for name in [name for name in weights if name.startswith("teacher.encoder.")]:
                    weights[name] = weights[name.replace("teacher.", "context_")]
            return state

        whole = checkpoint.load
        reading(place, "resume")  # before anything is patched
        with mock.patch.object(checkpoint, "load", load):
            return differs(place, READERS["resume"])

    return control


def late(place: Place) -> bool:
    """A resumed run whose schedules are a step behind."""
    reading(place, "resume")
    whole = loop.set_rates
    with mock.patch.object(
        loop, "set_rates", lambda o, c, step, steps: whole(o, c, step - 1, steps)
    ):
        return differs(place, READERS["resume"])


def unverified(place: Place) -> bool:
    """A flipped bit in the newest checkpoint, with the comparison of its hash switched off."""
    reading(place, "resume")
    with mock.patch.object(checkpoint, "_damage", return_value=None):
        return differs(place, READERS["resume"], lambda: flip_weight(place))


def flip_weight(place: Place) -> None:
    """Flip a high bit of the fraction of a weight of the newest checkpoint."""
    file = max(place.trial.glob("home/checkpoints/*/step-*")) / "state.pt"
    state = torch.load(file, weights_only=True)
    weight = state["objective"]["context_encoder.norm.weight"].numpy().tobytes()
    data = bytearray(file.read_bytes())
    data[data.index(weight) + 2] ^= 1 << 6
    damage.write(file, bytes(data))


def orphan(place: Place) -> bool:
    """A process that outlives its stage."""

    def main() -> None:
        subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True
        )

    place.run(main)
    return bool(kills.alone(place, 0.1))


def leftover(place: Place) -> bool:
    """A half-written file that a stage leaves."""
    reading(place, "train")
    start(place, READERS["train"])

    def main() -> None:
        loop.main()
        (place.trial / "out/encoder.safetensors.0123456789abcdef.tmp").touch()

    must(place.run(main), "leftover")
    return bool(kills.leftovers(place, "train"))


def differs(place: Place, reader: Reader, before: Callable[[], None] = lambda: None) -> bool:
    """Whether a run's outputs are not those of the undisturbed one."""
    name = next(name for name, one in READERS.items() if one is reader)
    undisturbed = reading(place, name)
    start(place, reader)
    before()
    ended = must(place.run(reader.main), name)
    return outputs(place, undisturbed.written, ended) != undisturbed.outputs


CONTROLS: dict[str, Callable[[Place], bool]] = {
    "the same seed gives the same bytes": nothing,
    "what is resumed or cached gives the same bytes": agree,
    "two ranks give the bytes of one": ranks_agree,
    "another seed": another_seed,
    "resumed without the optimiser's state": drop("optimizer"),
    "resumed with the context encoder as target encoder": drop("target encoder"),
    "resumed with schedules a step behind": late,
    "a flipped bit in a checkpoint that nobody verifies": unverified,
    "an orphan": orphan,
    "a half-written file": leftover,
    "a point of the journal that the database lacks": database.missing_point,
    "a point of the journal that the database has changed": database.changed_point,
}


def run(place: Place) -> list[Trial]:
    """All of them, every time."""
    done = []
    for number, (name, control) in enumerate(CONTROLS.items()):
        begun = time.monotonic()
        fired = control(place)
        print(f"control: {name}: {'fired' if fired else 'DID NOT FIRE'}", flush=True)
        seconds = time.monotonic() - begun
        verdict, note = ("survived", "fired") if fired else ("lost", "did not fire")
        done.append(Trial(name, verdict, 1, note, "controls", number, seconds))
    return done
