"""The journal's way into the embedded database: killed syncs, outages, a changed database.

In the end the database has every run, point, text and file of the journal exactly once.
"""

import contextlib
import math
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ijepa import config as configs
from ijepa.runtime import files
from ijepa.tracking import journal, mongo, sync
from ijepa.tracking.document import charted
from torture import damage, kills
from torture.place import TRACEBACK, Ended, Place, Process, kind, processes, walk
from torture.states import command, must
from torture.trials import Outcome

ON = {"IJEPA_MONGO_URL": ""}
SYNC, STOP = command("runs", "sync"), command("db", "stop")


def home() -> Path:
    return Path(os.environ["IJEPA_HOME"])


def build(place: Place) -> None:
    """The state ``filed``: a journal of all stages and a stopped database that equals it."""
    if (place.states / "filed").is_dir():
        return
    place.reset("reported")
    must(place.run(SYNC, **ON), "sync")
    assert not compared(place), compared(place)
    place.run(STOP, **ON)
    place.keep("filed")


def compared(place: Place, journal_home: Path | None = None) -> list[str]:
    """Where the database is not equal to a journal, by default the trial's."""

    def main() -> None:
        with mongo.session(home()) as database:
            print("\n".join(differences(database, journal_home or home())))

    ended = place.run(main, **ON)
    if ended.status:
        return [f"the database cannot be read: {kills.last(ended)}"]
    return [line for line in ended.out.splitlines() if line]


def differences(database: Any, journal_home: Path) -> list[str]:
    """Compare each run of the journal with what the database has; by no code of the sync's.

    Chunks of no file are no difference: nobody reads what a killed sync left of a file, and none
    can tell it from what another sync is about to write.
    """
    wrong, names = [], Counter[str]()
    documents = {d["meta"]["uuid"]: d for d in database.runs.find()}
    if len(documents) != database.runs.count_documents({}):
        wrong.append("a run is there twice")
    kept = {f["_id"]: f for f in database["fs.files"].find()}
    chunks: dict[Any, dict[int, bytes]] = {}
    for chunk in database["fs.chunks"].find():
        chunks.setdefault(chunk["files_id"], {})[chunk["n"]] = chunk["data"]
    series = {(s["run_id"], s["name"]): s for s in database.metrics.find()}
    if len(series) != database.metrics.count_documents({}):
        wrong.append("a series is there twice")
    for folder in sorted(journal_home.glob("runs/[0-9]*")):
        if not (folder / "run.json").is_file():
            continue
        run = files.read_json(folder / "run.json")
        document = documents.pop(run["meta"]["uuid"], None)
        if document is None:
            wrong.append(f"{folder.name}: no such run")
            continue
        wrong += [f"{folder.name}: {part}" for part in _run(folder, run, document, kept, chunks)]
        metrics = folder / "metrics.json"
        tree = files.read_json(metrics) if metrics.is_file() else {}
        for name, points in charted(tree).items():
            other = series.pop((document["_id"], name), {"steps": [], "values": []})
            names[name] += 1
            if other["steps"] != points["steps"] or not _same(other["values"], points["values"]):
                wrong.append(f"{folder.name}: series {name}")
    wrong += [f"a run of no journal: {uuid}" for uuid in documents]
    wrong += [f"a series of no run: {key}" for key in series]
    return wrong


def _same(one: list[float], other: list[float]) -> bool:
    return len(one) == len(other) and all(
        a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(one, other, strict=True)
    )


def _run(
    folder: Path, run: dict[str, Any], document: dict[str, Any], kept: dict[Any, Any],
    chunks: dict[Any, dict[int, bytes]],
) -> list[str]:  # fmt: skip
    """What of a run's document is not what its folder has."""
    text = folder / "cout.txt"
    config = files.read_json(folder / "config.json")
    accuracy = config["stage"] not in ("prepare", "pretrain")  # theirs is no accuracy
    expected = {
        "status": run["status"], "result": run.get("result") if accuracy else None,
        "meta": run["meta"], "config": config,
        "captured_out": text.read_text() if text.is_file() else "",
    }  # fmt: skip
    wrong = [key for key, value in expected.items() if document.get(key) != _plain(value)]
    artifacts = document.get("artifacts", [])  # a document may be an id and no more yet
    if [artifact["name"] for artifact in artifacts] != run["artifacts"]:
        return [*wrong, "artifacts"]
    for artifact in artifacts:
        parts = chunks.get(artifact["file_id"], {})
        stored = b"".join(parts[n] for n in sorted(parts))
        if artifact["file_id"] not in kept or stored != (folder / artifact["name"]).read_bytes():
            wrong.append(artifact["name"])
    return wrong


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key.replace(".", "_").replace("$", "_"): _plain(v) for key, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list) else value


def killed(place: Place, rng: random.Random) -> Outcome:
    """Kill syncs, and sometimes the server with them; then sync to the end, twice."""
    build(place)
    place.reset("reported" if rng.random() < 0.5 else "filed")
    empty = rng.random() < 0.5
    if empty:
        must(place.run(_emptied, **ON), "emptied")
    hits, said = 0, []
    for _ in range(rng.randint(1, 3)):
        share, server = rng.random() ** 2, rng.random() < 0.3
        process = Process(SYNC, place.trial, ON)
        if not process.wait(3 * share):
            process.kill()
            hits += 1
            said.append(f"{3 * share:.2f} s{' and the server' if server else ''}")
        process.end()
        if server:
            _signal(place, signal.SIGKILL)
    return _in_the_end(place, "kill sync", hits, f"sync killed after {', '.join(said)}")


def outage(place: Place, rng: random.Random) -> Outcome:
    """A run that is recorded while the server is killed, stopped, or told to end."""
    build(place)
    place.reset("filed")
    must(place.run(command("db", "start"), **ON), "start")
    number = rng.choice((signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM))
    moment, pause = rng.uniform(0, 2), rng.uniform(0, 3)
    process = Process(_recorded, place.trial, ON)
    process.wait(moment)
    hits = _signal(place, number)
    process.wait(pause)
    _signal(place, signal.SIGCONT)
    ended = process.end()
    what = f"{signal.Signals(number).name} of the server after {moment:.2f} s, for {pause:.2f} s"
    if ended.status:
        return Outcome(
            "outage", "lost", hits, f"{what}: status {ended.status}: {kills.last(ended)}"
        )
    return _in_the_end(place, "outage", hits, what)


def changed(place: Place, rng: random.Random) -> Outcome:
    """Change the database behind the journal's back: sync sees it and mends it."""
    build(place)
    place.reset("filed")
    name = rng.choice(sorted(CHANGES))
    ended = must(place.run(lambda: _change(name, rng), **ON), name)
    before = compared(place)
    if not before:
        place.run(STOP, **ON)
        return Outcome("database changed", "void", 0, f"{name}: made no difference")
    return _in_the_end(place, "database changed", 1, f"{name}: {ended.out.strip()}: {before[0]}")


def damaged(place: Place, rng: random.Random) -> Outcome:
    """Damage a file that a sync reads: it says which, and sends all other runs as they are."""
    build(place)
    place.reset("filed")
    must(place.run(_emptied, **ON), "emptied")
    place.run(STOP, **ON)
    by_kind: dict[str, list[Path]] = {}
    for path in walk(place.trial / "home"):
        whole = place.trial / "home" / path
        if whole.stat().st_size and (path.parts[0] == "runs" or path.name == "server.json"):
            by_kind.setdefault(kind(Path("home") / path), []).append(path)
    what = rng.choice(sorted(by_kind))
    file = rng.choice(by_kind[what])
    changed, how = damage.damaged((place.trial / "home" / file).read_bytes(), rng)
    damage.write(place.trial / "home" / file, changed)
    ended = place.run(SYNC, **ON)
    note = f"{file}: {how}: status {ended.status}: {kills.last(ended)}"
    named = any(part in ended.err for part in (file.name, *file.parts[1:-1]))
    if file.name == "server.json" and ended.status:
        for number in processes(place.trial):
            os.kill(number, signal.SIGKILL)
        return Outcome(what, "survived" if named and _clean(ended) else "unclear", 1, note)
    wrong = compared(place, place.states / "filed/home") if _clean(ended) else []
    place.run(STOP, **ON)
    others = [line for line in wrong if file.parts[1] not in line]
    if not _clean(ended):
        verdict = "unclear"
    elif others or (wrong and not named):
        verdict = "lost"
    else:
        verdict = "survived" if named else "no effect"
    return Outcome(what, verdict, 1, f"{note}; {wrong[:3]}")


def _clean(ended: Ended) -> bool:
    return ended.status not in (TRACEBACK,) and ended.status >= 0 and "Traceback" not in ended.err


def _change(name: str, rng: random.Random) -> None:
    with mongo.session(home()) as database:
        print(CHANGES[name](database, rng))


def _lose(collection: str) -> Callable[[Any, random.Random], str]:
    def change(database: Any, rng: random.Random) -> str:
        one = rng.choice(sorted(database[collection].find({}, {"_id": 1}), key=str))
        database[collection].delete_one(one)
        return f"a document of {collection} removed"

    return change


def _point(database: Any, rng: random.Random) -> str:
    series = rng.choice(sorted(database.metrics.find(), key=lambda s: str(s["_id"])))
    index = rng.randrange(len(series["values"]))
    series["values"][index] += 1
    database.metrics.replace_one({"_id": series["_id"]}, series)
    return f"a point of {series['name']} changed"


def _twice(database: Any, rng: random.Random) -> str:
    series = rng.choice(sorted(database.metrics.find({}, {"_id": 0}), key=str))
    database.metrics.insert_one(series)
    return f"{series['name']} twice"


def _field(database: Any, rng: random.Random) -> str:
    run = rng.choice(sorted(database.runs.find({}, {"_id": 1}), key=str))
    key, value = rng.choice([("captured_out", "x"), ("status", "x"), ("config.seed", 9)])
    database.runs.update_one(run, {"$set": {key: value}})
    return f"{key} changed"


def _chunk(database: Any, rng: random.Random) -> str:
    chunk = rng.choice(sorted(database["fs.chunks"].find(), key=lambda c: str(c["_id"])))
    data = bytearray(chunk["data"])
    data[rng.randrange(len(data))] ^= 1
    database["fs.chunks"].update_one({"_id": chunk["_id"]}, {"$set": {"data": bytes(data)}})
    return "a bit of a file flipped"


CHANGES: dict[str, Callable[[Any, random.Random], str]] = {
    "run lost": _lose("runs"), "series lost": _lose("metrics"), "file lost": _lose("fs.files"),
    "chunk lost": _lose("fs.chunks"), "point": _point, "series twice": _twice, "field": _field,
    "chunk": _chunk,
}  # fmt: skip


def missing_point(place: Place) -> bool:
    """Control: a series that is lost is seen."""
    return _seen(place, "series lost")


def changed_point(place: Place) -> bool:
    """Control: a value that is another is seen."""
    return _seen(place, "point")


def _seen(place: Place, name: str) -> bool:
    build(place)
    place.reset("filed")
    before = compared(place)
    must(place.run(lambda: _change(name, random.Random(0)), **ON), name)
    after = compared(place)
    place.run(STOP, **ON)
    return not before and bool(after)


def _in_the_end(place: Place, row: str, hits: int, what: str) -> Outcome:
    """Sync, compare, sync again: all is there once, and the second sync has nothing to do."""
    faults = []
    for expected in ("", "MongoDB: 0 runs written"):
        ended = place.run(SYNC, **ON)
        if ended.status or expected not in ended.out:
            faults.append(f"sync: status {ended.status}: {kills.last(ended)}")
    if not faults:
        faults += compared(place)
    place.run(STOP, **ON)
    if left := kills.alone(place, 5):
        faults.append(f"{len(left)} processes are left")
    if not hits:
        return Outcome(row, "void", 0, f"{what}: nothing was hit")
    return Outcome(row, "lost" if faults else "survived", hits, "; ".join([what, *faults[:4]]))


def _emptied() -> None:
    with mongo.session(home()) as database:
        database.client.drop_database(database.name)


def _signal(place: Place, number: int) -> int:
    """Send the server a signal, if it runs."""
    file = place.trial / "home/mongo/server.json"
    with contextlib.suppress(ProcessLookupError):
        pid = files.read_json(file)["pid"] if file.is_file() else 0
        if pid in processes(place.trial):
            os.kill(pid, number)
            return 1
    return 0


def _recorded() -> None:
    """A stage of three seconds with two hundred points, which is synced all the time."""
    sync.EVERY = 0.2  # type: ignore[misc]

    def body(run: journal.Run) -> float:
        for step in range(100):
            run.log("one", step / 3, step)
            run.log("two", -step, step)
            time.sleep(0.03)
        return 1.0

    journal.record("pretrain", configs.load(), body)
