"""Fill MongoDB from the journal, as often as one likes: the journal wins, nothing is doubled.

A run's document (``document``) holds the hash of the journal's files that it was made from, and
that of the document and series that were written; so a database that is no longer the journal's is
found.
"""

import contextlib
import hashlib
import mimetypes
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bson
import gridfs
from pymongo import ASCENDING, ReplaceOne
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from ijepa.runtime import files
from ijepa.tracking import document, mongo, runs

Mongo = Database[dict[str, Any]]
LOCK = 5.0  # seconds that another sync of the same run is waited for


@dataclass
class Summary:
    """What a sync did.

    Attributes:
        written: the runs that are whole in the database now and were not.
        unchanged: how many were whole already.
        died: run -> how it is known that it is dead; it is marked so.
        repaired: the runs whose document or series was not what had been written; it is again.
        problems: a line for every run that is not whole in the database, and why.
        held: how many of the runs that were looked at are in the database at the end.
    """

    written: list[int] = field(default_factory=list)
    unchanged: int = 0
    died: dict[int, str] = field(default_factory=dict)
    repaired: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    held: int = field(default=0, compare=False)


def sync(
    home: Path, only: Iterable[int] | None = None, compare: bool = False, patient: bool = False
) -> Summary:
    """Bring the database up to the journal.

    Runs whose process is gone are marked DIED. A run counts as unchanged only when its files are
    those that were synced last and the database holds every one of its points and artifacts.

    Args:
        home: the folder of the journal.
        only: ids of the runs to look at; all by default.
        compare: read what the database has and compare its hash, which costs as much as to write.
        patient: a person waits, so a server on a busy machine may take minutes to answer.

    Raises:
        UnavailableError: the database is switched off, does not answer or refuses us.
    """
    folders = runs.folders(home)
    if only is not None:
        chosen = {str(number) for number in only}
        folders = [folder for folder in folders if folder.name in chosen]
    with mongo.session(home, patient) as database:
        return _sync(database, folders, compare)


def _sync(database: Mongo, folders: Iterable[Path], compare: bool) -> Summary:
    database.metrics.create_index([("run_id", ASCENDING), ("name", ASCENDING)])
    database.runs.create_index("meta.uuid")
    database["fs.files"].create_index("metadata.sha256")
    summary, owners = Summary(), dict[str, str]()
    for folder in folders:
        if not (folder / "run.json").exists():  # about to start, or stopped before it did
            continue
        try:  # an older view must not overwrite a newer one
            with files.locked(folder / ".sync", LOCK, ValueError("another process sends it")):
                _sync_folder(database, folder, compare, summary, owners)
        except (ValueError, OSError) as error:
            summary.problems.append(f"run {folder.name}: left out: {error}")
    uuids = {"meta.uuid": {"$in": list(owners)}, "journal": {"$exists": True}}
    summary.held = database.runs.count_documents(uuids)
    return summary


def _sync_folder(
    database: Mongo, folder: Path, compare: bool, summary: Summary, owners: dict[str, str]
) -> None:
    """Write one run unless it is there; ``owners`` has the uuids that were met and whose they are.

    Raises:
        ValueError: a file of the run is damaged, or it is a copy of another; one line.
    """
    number = int(folder.name)
    if died := runs.heal(folder):
        summary.died[number] = died
    run = runs.entry(folder)
    if run is None or runs.load(folder) is None:
        return
    owner = owners.setdefault(run["meta"]["uuid"], folder.name)
    if owner != folder.name:
        raise ValueError(f"a copy of run {owner}, whose uuid it has")
    digest, have = _digest(folder), _identify(database, number, run["meta"]["uuid"])
    run_id = int(have["_id"])
    points, damage = _series(database, folder, run_id)
    lost = compare and _remove_damaged(database, have)
    if damage is None and have.get("journal") == digest:
        whole = _whole(database, have, run, points)
        if whole and (not compare or have.get("written") == _written(database, run_id)):
            summary.unchanged += 1
            return
        if whole or lost:
            summary.repaired.append(number)
    _write_run(database, folder, run, run_id, points, "" if damage else digest)
    if damage:
        summary.problems.append(f"run {number}: written without its series: {damage}")
    elif number not in summary.repaired:
        summary.written.append(number)


def _digest(folder: Path) -> str:
    """SHA-256 of what the journal has of a run, and of how it is shown."""
    digest = hashlib.sha256(document.FORM)
    for name in ("run.json", "config.json", "info.json", "metrics.json", "cout.txt"):
        with contextlib.suppress(FileNotFoundError):
            digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    return digest.hexdigest()


def _series(
    database: Mongo, folder: Path, run_id: int
) -> tuple[dict[str, dict[str, Any]] | None, str | None]:
    """The series to write; None, and why, where the journal's file cannot be believed.

    Then those in the database stay.
    """
    try:
        points = runs.series(folder)
    except ValueError as error:
        return None, str(error)
    if not points and database.metrics.find_one({"run_id": run_id}, {"_id": 1}):
        return None, f"{folder / 'metrics.json'}: missing, and the database has series"
    return points, None


def _whole(
    database: Mongo,
    have: Mapping[str, Any],
    run: Mapping[str, Any],
    points: Mapping[str, Any] | None,
) -> bool:
    """Whether the database, which has this of a run's document, has its every point and file."""
    drawn = document.charted(points or {})
    counts = sorted((name, len(series["values"])) for name, series in drawn.items())
    kept = len(run["artifacts"]) + len(run["experiment"].get("sources", []))
    whole = [old for old in _files(database, have) if _complete(database, old)]
    return _counts(database, have["_id"]) == counts and len(whole) == kept


def _written(database: Mongo, run_id: int) -> str:
    """SHA-256 of the run's document and series as the database has them."""
    run = database.runs.find_one({"_id": run_id}) or {}
    run.pop("written", None)
    digest = hashlib.sha256(bson.encode(run))
    for series in database.metrics.find({"run_id": run_id}).sort("name", ASCENDING):
        series.pop("_id")
        digest.update(bson.encode(series))
    return digest.hexdigest()


def _write_run(
    database: Mongo,
    folder: Path,
    run: dict[str, Any],
    run_id: int,
    points: Mapping[str, Any] | None,
    digest: str,
) -> None:
    """Write one run; without ``points`` the series that the database has stay.

    Raises:
        ValueError: an artifact or the output is not what was recorded; one line.
    """
    runs.check(folder, ["cout.txt", *run["artifacts"]])
    info, output = runs.read(folder / "info.json") or {}, folder / "cout.txt"
    config = runs.read(folder / "config.json") or {}
    printed = output.read_text(errors="replace") if output.is_file() else ""
    written = document.build(run, config, info, printed, points)
    written["info"]["metrics"] = _write_series(database, run_id, run["meta"]["uuid"], points)
    written["experiment"]["sources"] = [
        [name, _put(database, folder.parent / stored, f"source://{name}")]
        for name, stored in run["experiment"]["sources"]
    ]
    written["artifacts"] = [
        {"name": name, "file_id": _put(database, folder / name, f"artifact://{run_id}/{name}")}
        for name in run["artifacts"]
    ]
    written |= {"_id": run_id, "journal": digest}
    database.runs.replace_one({"_id": run_id}, document.fitting(written))
    # of what can be read back: a server may keep a number as another kind
    database.runs.update_one({"_id": run_id}, {"$set": {"written": _written(database, run_id)}})


def _write_series(
    database: Mongo, run_id: int, uuid: str, points: Mapping[str, Any] | None
) -> list[dict[str, str]]:
    """Write the series of a run in one call; without ``points`` those of the database stay.

    Returns:
        Their names and ids, as the run's document lists them.
    """
    if points is None:
        known = database.metrics.find({"run_id": run_id}, {"name": 1})
        return [{"name": s["name"], "id": str(s["_id"])} for s in known]
    drawn = document.charted(points)
    ids = {name: document.series_id(uuid, name) for name in drawn}
    database.metrics.delete_many({"run_id": run_id, "_id": {"$nin": list(ids.values())}})
    if drawn:
        database.metrics.bulk_write([
            ReplaceOne({"_id": ids[name]}, {"run_id": run_id, "name": name, **series}, upsert=True)
            for name, series in drawn.items()
        ])  # fmt: skip
    return [{"name": name, "id": str(key)} for name, key in ids.items()]


def _identify(database: Mongo, wanted: int, uuid: str) -> dict[str, Any]:
    """What the database has of a run, but for what is long.

    Its ``_id`` is the run's own, or the next free one if another machine took that.
    """
    parts = {"journal": 1, "written": 1, "artifacts": 1, "experiment.sources": 1}
    known = database.runs.find_one({"meta.uuid": uuid}, parts)
    while known is None:
        try:
            database.runs.insert_one({"_id": wanted, "meta": {"uuid": uuid}})
        except DuplicateKeyError:
            known = database.runs.find_one({"_id": wanted, "meta.uuid": uuid}, parts)
            wanted += 1
        else:
            return {"_id": wanted}
    return known


def _counts(database: Mongo, run_id: int) -> list[tuple[str, int]]:
    """The series that the database really has, sorted, and how many points of each."""
    counts = database.metrics.aggregate(
        [
            {"$match": {"run_id": run_id}},
            {"$project": {"name": 1, "points": {"$size": "$values"}}},
        ]
    )
    return sorted((row["name"], row["points"]) for row in counts)


def _files(database: Mongo, have: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The artifacts and sources of a run that the database has, as GridFS lists them."""
    ids = [one["file_id"] for one in have.get("artifacts", [])]
    ids += [source for _, source in have.get("experiment", {}).get("sources", [])]
    return list(database["fs.files"].find({"_id": {"$in": ids}})) if ids else []


def _complete(database: Mongo, old: Mapping[str, Any]) -> bool:
    """Whether every chunk of a file is there."""
    chunks = database["fs.chunks"].count_documents({"files_id": old["_id"]})
    return bool(chunks == -(-old["length"] // old["chunkSize"]))


def _remove_damaged(database: Mongo, have: Mapping[str, Any]) -> bool:
    """Remove the run's files whose bytes are not what was put there; whether there were any."""
    damaged = False
    for old in _files(database, have):
        digest = hashlib.sha256()
        for chunk in database["fs.chunks"].find({"files_id": old["_id"]}).sort("n", ASCENDING):
            digest.update(chunk["data"])
        if digest.hexdigest() != old.get("metadata", {}).get("sha256"):
            gridfs.GridFS(database).delete(old["_id"])
            damaged = True
    return damaged


def _put(database: Mongo, path: Path, name: str) -> Any:
    """Store a file under a name once, however often it is asked for; its id."""
    sha256 = files.sha256(path)
    for old in database["fs.files"].find({"filename": name, "metadata.sha256": sha256}):
        if _complete(database, old):  # else it was cut off: put it again
            return old["_id"]
    with path.open("rb") as file:
        return gridfs.GridFS(database).put(
            file,
            filename=name,
            content_type=mimetypes.guess_type(path.name)[0],
            metadata={"sha256": sha256},
        )
