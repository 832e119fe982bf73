"""The database: one server, every point of every run, and no harm when it fails (done-when 6)."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gridfs
import pymongo
import pytest
from pymongo.errors import OperationFailure
from test_tracking_journal import record

from ijepa.runtime import files
from ijepa.tracking import document, journal, live, mongo, process, runs, sync

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def provisioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with its users, stopped: making them takes seconds."""
    folder = tmp_path_factory.mktemp("provisioned")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("IJEPA_MONGO_URL", raising=False)
        mongo.connect(folder).client.close()
        mongo.stop(folder)
    return folder / "mongo"


@pytest.fixture
def home(tmp_path: Path, provisioned: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home whose runs beat and are sent several times a second."""
    shutil.copytree(provisioned, tmp_path / "mongo")
    monkeypatch.setenv("IJEPA_HOME", str(tmp_path))
    monkeypatch.delenv("IJEPA_MONGO_URL", raising=False)
    monkeypatch.setattr(journal, "BEAT", 0.2)
    monkeypatch.setattr(live, "EVERY", 0.3)
    yield tmp_path
    state = mongo._state(tmp_path / "mongo")
    if state is not None and mongo._runs(state):
        os.kill(state["pid"], signal.SIGKILL)


def read(home: Path, ask: Callable[[Any], Any]) -> Any:
    database = mongo.connect(home)
    try:
        return ask(database)
    finally:
        database.client.close()


def points(home: Path) -> dict[tuple[int, str], tuple[list[int], list[float]]]:
    return read(
        home,
        lambda db: {
            (m["run_id"], m["name"]): (m["steps"], m["values"]) for m in db.metrics.find()
        },
    )


def in_the_journal(home: Path) -> dict[tuple[int, str], tuple[list[int], list[float]]]:
    return {
        (run.id, name): (series["steps"], series["values"])
        for run in runs.listing(home)
        for name, series in (runs.read(run.folder / "metrics.json") or {}).items()
    }


def external(home: Path, password: str | None = None) -> str:
    """The embedded server's address, as the URL of a server that is somebody else's."""
    mongo.connect(home).client.close()
    state = mongo._state(home / "mongo")
    assert state is not None
    word = password or state["passwords"][mongo.OWNER]
    return (
        f"mongodb://{mongo.OWNER}:{word}@127.0.0.1:{state['port']}/?authSource=admin&journal=true"
    )


def pid(home: Path) -> int:
    state = mongo._state(home / "mongo")
    assert state is not None
    return int(state["pid"])


def steps(run: journal.Run, first: int, last: int) -> None:
    """Log slowly enough for beats and syncs to happen in between."""
    for step in range(first, last):
        run.log("loss", 1 / (1 + step), step)
        time.sleep(0.02)


def test_eight_processes_start_one_server_that_asks_for_a_password(home: Path) -> None:
    shutil.rmtree(home / "mongo")
    script = (
        "from pathlib import Path; from ijepa.tracking import mongo\n"
        f"home = Path({str(home)!r}); mongo.connect(home).client.close()\n"
        "print({k: v for k, v in mongo._state(home / 'mongo').items() if k != 'passwords'})"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT)
        for _ in range(8)
    ]
    answers = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 8
    assert len(set(answers)) == 1, answers
    commands = [
        path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()
    ]
    assert len([c for c in commands if str(home / "mongo" / "db").encode() in c]) == 1
    assert (home / "mongo" / "server.json").stat().st_mode & 0o077 == 0

    reader: pymongo.MongoClient[Any] = pymongo.MongoClient(mongo.reader_url(home))
    with reader:
        assert reader.ijepa.runs.find_one() is None
        with pytest.raises(OperationFailure, match="not authorized"):
            reader.ijepa.runs.insert_one({"_id": 1})
        with pytest.raises(OperationFailure, match="not authorized"):
            reader.ijepa.runs.drop()
    port = mongo.reader_url(home).rpartition(":")[2].partition("/")[0]
    anonymous: pymongo.MongoClient[Any] = pymongo.MongoClient("127.0.0.1", int(port))
    with anonymous, pytest.raises(OperationFailure, match="requires authentication"):
        anonymous.ijepa.runs.find_one()
    assert mongo.stop(home)
    assert not mongo.stop(home)
    assert "not running" in mongo.status(home)


def test_a_run_arrives_while_it_goes_on_and_is_whole_at_the_end(
    home: Path, tmp_path: Path
) -> None:
    file = tmp_path / "report.html"
    file.write_text("<h1>report</h1>")
    seen: list[int] = []

    def body(run: journal.Run) -> float:
        run.artifact(file)
        run.log("odd", float("nan"), 0)
        steps(run, 0, 200)
        seen.extend(
            len(values) for (_, name), (_, values) in points(home).items() if name == "loss"
        )
        return 1.5

    mongo.connect(home).client.close()
    record(body)
    assert seen
    assert 0 < seen[0] <= 200
    (run,) = runs.listing(home)
    stored = points(home)
    assert stored[run.id, "loss"] == (list(range(200)), [1 / (1 + step) for step in range(200)])
    assert stored[run.id, "odd"][1][0] != stored[run.id, "odd"][1][0]  # NaN
    document = read(home, lambda db: db.runs.find_one())
    assert document["_id"] == run.id
    assert isinstance(document["_id"], int)
    assert document["status"] == "COMPLETED"
    assert document["result"] == 1.5
    assert {m["name"] for m in document["info"]["metrics"]} == {"loss", "odd"}
    assert [a["name"] for a in document["artifacts"]] == ["report.html"]

    # a second sync changes nothing; a damaged copy is noticed although the run says COMPLETED
    count = {"runs": 1, "metrics": 2, "fs.files": 2}  # the artifact and the source

    def counts(db: Any) -> dict[str, int]:
        return {name: db[name].count_documents({}) for name in count}

    assert read(home, counts) == count
    again = sync.sync(home)
    assert (again.written, again.unchanged) == ([], 1)
    read(home, lambda db: db.metrics.update_one({"name": "loss"}, {"$set": {"values": [1.0]}}))
    assert sync.sync(home).written == [run.id]
    assert points(home)[run.id, "loss"] == stored[run.id, "loss"]
    read(home, lambda db: db["fs.files"].delete_one({"filename": {"$regex": "report"}}))
    read(home, lambda db: db["fs.chunks"].delete_many({}))
    assert sync.sync(home).written == [run.id]
    assert sync.sync(home).written == []
    assert read(home, lambda db: db["fs.files"].count_documents({})) >= 2
    assert read(home, lambda db: db.runs.count_documents({})) == 1


def test_the_embedded_server_killed_in_mid_run_is_started_again(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def body(run: journal.Run) -> None:
        steps(run, 0, 50)
        os.kill(pid(home), signal.SIGKILL)
        steps(run, 50, 200)

    mongo.connect(home).client.close()
    record(body)
    assert len(points(home)) == 1
    assert points(home) == in_the_journal(home)
    assert "is not in MongoDB" not in capfd.readouterr().err


@pytest.mark.parametrize("when", ["start", "middle"])
def test_a_server_that_is_gone_costs_a_line(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], when: str
) -> None:
    monkeypatch.setenv("IJEPA_MONGO_URL", external(home))

    def body(run: journal.Run) -> None:
        steps(run, 0, 50)
        if when == "middle":
            os.kill(pid(home), signal.SIGKILL)
        steps(run, 50, 150)

    if when == "start":
        os.kill(pid(home), signal.SIGKILL)
    start = time.monotonic()
    record(body)
    assert time.monotonic() - start < 20
    assert capfd.readouterr().err.count("is not in MongoDB: MongoDB does not answer") == 1
    assert runs.listing(home)[0].status == "COMPLETED"
    monkeypatch.delenv("IJEPA_MONGO_URL")
    sync.sync(home)
    assert len(in_the_journal(home)) == 1
    assert points(home) == in_the_journal(home)


def test_refused_credentials_cost_a_line_that_does_not_show_them(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IJEPA_MONGO_URL", external(home, "CANARY-wrong"))
    record(lambda run: steps(run, 0, 40))
    error = capfd.readouterr().err
    assert error.count("is not in MongoDB: MongoDB refuses the credentials") == 1
    assert "CANARY" not in error
    assert not [
        p for p in (home / "runs").rglob("*") if p.is_file() and b"CANARY" in p.read_bytes()
    ]
    monkeypatch.delenv("IJEPA_MONGO_URL")
    sync.sync(home)
    assert points(home) == in_the_journal(home)


@pytest.mark.parametrize("embedded", [True, False])
def test_a_stopped_server_hangs_nobody(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], embedded: bool
) -> None:
    monkeypatch.setattr(live, "PATIENCE", 12)
    url = external(home)
    if not embedded:
        monkeypatch.setenv("IJEPA_MONGO_URL", url)

    def body(run: journal.Run) -> None:
        steps(run, 0, 40)
        os.kill(pid(home), signal.SIGSTOP)
        steps(run, 40, 80)

    start = time.monotonic()
    try:
        record(body)
    finally:
        os.kill(pid(home), signal.SIGCONT)
    assert time.monotonic() - start < 25
    assert "is not in MongoDB" in capfd.readouterr().err
    monkeypatch.delenv("IJEPA_MONGO_URL", raising=False)
    time.sleep(0.5)
    sync.sync(home)
    assert points(home) == in_the_journal(home)
    assert len(points(home)) == 1


def test_a_run_that_was_killed_is_healed_and_keeps_its_points(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "import os, signal, sys, time; sys.path.insert(0, 'tests')\n"
        "from test_tracking_journal import record, journal\n"
        "journal.BEAT = 0.1\n"
        "def body(run):\n"
        "    run.log('loss', 1.0, 0); time.sleep(0.5); os.kill(os.getpid(), signal.SIGKILL)\n"
        "record(body)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert runs.listing(home)[0].status == "RUNNING"
    monkeypatch.setattr(runs, "STALE", 0.0)
    assert sync.sync(home).died == {runs.listing(home)[0].id: "its process is gone"}
    assert read(home, lambda db: db.runs.find_one())["status"] == "DIED"
    assert list(points(home).values()) == [([0], [1.0])]


def test_two_machines_may_have_the_same_id(home: Path) -> None:
    record(lambda run: run.log("loss", 1.0, 0))
    run = runs.listing(home)[0]
    text = (run.folder / "run.json").read_text()
    uuid = runs.read(run.folder / "run.json")["meta"]["uuid"]
    (run.folder / "run.json").write_text(text.replace(uuid, "another machine's"))
    files.write_sums(
        run.folder, ["run.json", "config.json", "info.json", "cout.txt", "metrics.json"]
    )
    (home / "runs" / "not-a-number").mkdir()  # Omniboard would show the wrong run for such an id
    sync.sync(home)
    sync.sync(home)
    ids = read(home, lambda db: sorted(document["_id"] for document in db.runs.find()))
    assert ids == [run.id, run.id + 1]
    assert {key for key, _ in points(home)} == set(ids)


def test_what_is_too_large_for_a_document_is_shortened(home: Path) -> None:
    def body(run: journal.Run) -> None:
        run.info(large="x" * 17_000_000, number=2**70, dotted={"a.b": 1})

    record(body)
    document = read(home, lambda db: db.runs.find_one())
    assert document["info"] == "too large for MongoDB: see the journal"
    assert document["status"] == "COMPLETED"
    record(lambda run: run.info(number=2**70, dotted={"a.b": 1}))
    document = read(home, lambda db: db.runs.find_one({"_id": runs.listing(home)[0].id}))
    assert document["info"]["number"] == str(2**70)
    assert document["info"]["dotted"] == {"a_b": 1}


@pytest.mark.parametrize(
    "change",
    [
        lambda db: db.runs.update_one({}, {"$set": {"result": 99.0}}),
        lambda db: db.runs.update_one({}, {"$set": {"config.seed": 7}}),
        lambda db: db.metrics.update_one({"name": "loss"}, {"$set": {"values.1": 0.25}}),
        lambda db: db.metrics.update_one({"name": "loss"}, {"$set": {"steps.0": 5}}),
    ],
)
def test_a_database_that_is_no_longer_what_was_written_is_found_and_mended(
    home: Path, change: Callable[[Any], Any]
) -> None:
    record(lambda run: [run.log("loss", value, step) for step, value in enumerate((3.0, 2.0))][1])
    (run,) = runs.listing(home)
    as_written = read(home, lambda db: [*db.runs.find(), *db.metrics.find()])
    assert sync.sync(home, compare=True) == sync.Summary(unchanged=1)
    read(home, change)
    assert sync.sync(home) == sync.Summary(unchanged=1), "its counts are right"
    assert sync.sync(home, compare=True).repaired == [run.id]
    assert read(home, lambda db: [*db.runs.find(), *db.metrics.find()]) == as_written
    assert sync.sync(home, compare=True) == sync.Summary(unchanged=1)


@pytest.mark.parametrize(
    ("change", "seen"),  # with counts alone
    [
        (lambda db: db["fs.chunks"].delete_one({}), True),
        (lambda db: db["fs.files"].delete_one({"contentType": "text/html"}), True),
        (lambda db: db["fs.chunks"].update_one({}, {"$set": {"data": b"other bytes"}}), False),
        (lambda db: db.metrics.insert_one({**db.metrics.find_one(), "_id": "twice"}), True),
    ],
)
def test_files_and_series_of_the_database_are_those_of_the_journal(
    home: Path, tmp_path: Path, change: Callable[[Any], Any], seen: bool
) -> None:
    page = tmp_path / "page.html"
    page.write_text("what the run wrote")

    def body(run: journal.Run) -> None:
        run.log("loss", 1.0, 0)
        run.artifact(page)

    record(body)
    assert sync.sync(home, compare=True) == sync.Summary(unchanged=1)
    read(home, change)
    quick = sync.sync(home)
    assert bool(quick.written or quick.repaired) is seen
    done = sync.sync(home, compare=True)
    assert bool(done.repaired) is not seen
    assert sync.sync(home, compare=True) == sync.Summary(unchanged=1)
    artifacts = read(home, lambda db: db.runs.find_one())["artifacts"]
    whole = read(home, lambda db: gridfs.GridFS(db).get(artifacts[0]["file_id"]).read())
    assert whole == b"what the run wrote"
    assert len(read(home, lambda db: list(db.metrics.find()))) == 1


def test_a_damaged_artifact_or_output_is_not_sent_as_if_whole(home: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("what the run wrote")

    def body(run: journal.Run) -> None:
        os.write(1, b"what it printed\n")  # print goes to pytest
        run.artifact(page)

    record(body)
    (run,) = runs.listing(home)
    for name in ("page.html", "cout.txt"):
        before = read(home, lambda db: [*db.runs.find(), *db["fs.files"].find()])
        kept = (run.folder / name).read_bytes()
        (run.folder / name).write_bytes(b"x" * len(kept))
        read(home, lambda db: db.runs.update_one({}, {"$set": {"journal": "of before"}}))
        (line,) = sync.sync(home).problems
        assert line.startswith(f"run {run.id}: left out: {run.folder / name}: damaged")
        (run.folder / name).write_bytes(kept)
        assert sync.sync(home).written == [run.id]
        assert read(home, lambda db: [*db.runs.find(), *db["fs.files"].find()]) == before


@pytest.mark.parametrize("content", [b"{}", b'{"loss"', None])
def test_series_in_the_database_stay_when_the_journals_are_damaged(
    home: Path, content: bytes | None
) -> None:
    record(lambda run: run.log("loss", 1.0, 0))
    (run,) = runs.listing(home)
    path, before = run.folder / "metrics.json", points(home)
    whole = path.read_bytes()
    path.write_bytes(content) if content is not None else path.unlink()
    for _ in range(2):  # it is said again and again, and never that the run is written
        done = sync.sync(home)
        assert (done.written, done.unchanged, len(done.problems)) == ([], 0, 1)
        assert f"{path}: " in done.problems[0]
        assert points(home) == before
        document = read(home, lambda db: db.runs.find_one())
        assert [series["name"] for series in document["info"]["metrics"]] == ["loss"]
    path.write_bytes(whole)
    assert sync.sync(home).written == [run.id]
    assert points(home) == before == in_the_journal(home)


def test_a_damaged_run_and_a_copy_of_one_cost_a_line_each(home: Path) -> None:
    for _ in range(3):
        record(lambda run: run.log("loss", 1.0, 0))
    newest, middle, _oldest = runs.listing(home)
    shutil.copytree(newest.folder, home / "runs" / str(newest.id + 1))
    (middle.folder / "run.json").write_bytes(b"{}")
    read(home, lambda db: db.client.drop_database("ijepa"))
    done = sync.sync(home)
    assert len(done.written) == 2
    assert [line.partition(":")[0] for line in done.problems] == [
        f"run {middle.id}", f"run {newest.id + 1}",
    ]  # fmt: skip
    assert f"a copy of run {newest.id}" in done.problems[1]
    assert read(home, lambda db: db.runs.count_documents({})) == 2


def test_keys_that_mongo_would_make_one_stay_apart() -> None:
    tree = {"a.b": 1, "a_b": 2, "a$b": {"x.y": 3}, "c": [{"d.e": 4, "d_e": 5}]}
    plain = document._plain(tree)
    assert plain == {"a_b_2": 1, "a_b": 2, "a_b_3": {"x_y": 3}, "c": [{"d_e_2": 4, "d_e": 5}]}
    assert document._plain(plain) == plain


def test_a_server_that_its_starter_could_not_note_before_it_was_killed_is_ended(
    home: Path,
) -> None:
    """It holds the database: without that no other would ever start."""
    file = home / "mongo/server.json"
    before = file.read_bytes()
    mongo.connect(home).client.close()
    lost = pid(home)
    file.write_bytes(before)
    mongo.connect(home).client.close()
    assert pid(home) != lost
    assert process.mark(lost) is None


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"port": 1, "pass'])
def test_a_damaged_server_file_is_named_and_hurts_no_run(
    home: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path = home / "mongo" / "server.json"
    path.write_bytes(content)
    for call in (mongo.connect, mongo.status, mongo.stop, mongo.reader_url):
        with pytest.raises(mongo.UnavailableError, match=r"mongo/server\.json: damaged") as error:
            call(home)
        assert "\n" not in str(error.value)
    record(lambda run: run.log("loss", 1.0, 0))
    assert runs.listing(home)[0].status == "COMPLETED"
    assert "is not in MongoDB:" in capfd.readouterr().err
    path.unlink()


def test_whoever_writes_to_a_server_while_it_is_made_is_found(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its two starts nobody is asked for a password."""
    shutil.rmtree(home / "mongo")
    started = mongo._start

    def start(folder: Path, state: dict[str, Any], *options: str) -> dict[str, Any]:
        state = started(folder, state, *options)
        if not options:
            with mongo._client(state, None) as client:
                client.other.command("createUser", "mallory", pwd="x", roles=["root"])
        return state

    monkeypatch.setattr(mongo, "_start", start)
    with pytest.raises(mongo.UnavailableError, match=r"somebody else .*mallory"):
        mongo.connect(home)
    assert not (home / "mongo" / "db").exists()
    monkeypatch.setattr(mongo, "_start", started)
    mongo.connect(home).client.close()
    state = mongo._state(home / "mongo")
    assert state is not None
    assert mongo._strangers(state) == []


def test_an_artifact_that_is_gone_is_said_by_the_stage_itself(
    home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figure.png"
    file.write_bytes(b"x")

    def body(run: journal.Run) -> None:
        run.artifact(file)
        (home / "runs" / str(run.id) / "figure.png").unlink()

    record(body)
    (run,) = runs.listing(home)
    (note,) = [line for line in capfd.readouterr().err.splitlines() if "not in MongoDB" in line]
    assert f"run {run.id}: left out: " in note
    assert "figure.png" in note


@pytest.mark.parametrize(("patient", "limits"), [(True, mongo.PATIENT), (False, mongo.LIMITS)])
def test_who_asked_for_it_waits_longer_than_training_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patient: bool, limits: dict[str, Any]
) -> None:
    given: dict[str, Any] = {}

    class Client:
        def __init__(self, url: str, **options: Any) -> None:
            given.update(options)
            raise pymongo.errors.ServerSelectionTimeoutError("nobody there")

    monkeypatch.setenv("IJEPA_MONGO_URL", "mongodb://somewhere:1")
    monkeypatch.setattr(pymongo, "MongoClient", Client)
    with pytest.raises(mongo.UnavailableError):
        mongo.connect(tmp_path, patient)
    assert given == limits
    assert mongo.PATIENT["socketTimeoutMS"] > 10 * mongo.LIMITS["socketTimeoutMS"]
