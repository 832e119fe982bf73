"""The database: an embedded MongoDB server of this checkout's own, or the one of IJEPA_MONGO_URL.

The embedded one is SecantusDB, a separate program (its licence is the GPL: it is never imported).
It listens on loopback only and asks for a password. Any of several processes may start it; one
does.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pymongo
from pymongo.database import Database
from pymongo.errors import ConfigurationError, InvalidURI, OperationFailure, PyMongoError

from ijepa.runtime import environment, errors, files
from ijepa.tracking import process, redaction

OWNER, AUDITOR = "ijepa", "auditor"  # all rights; reading only, for Omniboard
# every wait is bounded: a server that is dead, or accepts and never answers, may hold nobody up
LIMITS: dict[str, Any] = {
    "serverSelectionTimeoutMS": 2000,
    "connectTimeoutMS": 2000,
    "socketTimeoutMS": 5000,
    "retryWrites": False,
    "retryReads": False,
}
# where a person waits for it: the server shares its cores with training
PATIENT = LIMITS | {
    "serverSelectionTimeoutMS": 20_000,
    "connectTimeoutMS": 20_000,
    "socketTimeoutMS": 180_000,
}


class UnavailableError(errors.Failure):
    """The database cannot be used now; the message says why in one line, without secrets."""


def url() -> str:
    """The value of IJEPA_MONGO_URL: empty means the embedded server, ``off`` none."""
    return environment.text("IJEPA_MONGO_URL")


def database_name() -> str:
    """The value of IJEPA_MONGO_DB.

    Raises:
        UnavailableError: no database can have that name.
    """
    name = environment.text("IJEPA_MONGO_DB")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,63}", name):
        raise UnavailableError(
            f"IJEPA_MONGO_DB: {name!r} is not a name of letters, digits, _ and -, at most 63"
        )
    return name


def connect(home: Path, patient: bool = False) -> Database[dict[str, Any]]:
    """The database of the runs; the embedded server is started when it does not run.

    Args:
        home: of the embedded server.
        patient: wait for a server that is busy.

    Raises:
        UnavailableError: it is switched off, cannot be reached or refuses the credentials.
    """
    if url() == "off":
        raise UnavailableError("IJEPA_MONGO_URL is off")
    name, limits = database_name(), PATIENT if patient else LIMITS
    try:
        if url():
            with warnings.catch_warnings():  # the driver's show an option's value
                warnings.simplefilter("ignore")
                client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(url(), **limits)
        else:
            client = _client(_ensure(home, limits), OWNER, limits)
        try:
            client.admin.command("ping")
        except PyMongoError:
            client.close()
            raise
    except (InvalidURI, ConfigurationError, ValueError, OSError):  # a file it names, too
        raise UnavailableError("IJEPA_MONGO_URL is not the URL of a MongoDB server") from None
    except PyMongoError as error:
        raise UnavailableError(_reason(error)) from None
    return client[name]


@contextlib.contextmanager
def session(home: Path, patient: bool = False) -> Iterator[Database[dict[str, Any]]]:
    """``connect``, and close at the end.

    Raises:
        UnavailableError: also where the database fails, or refuses what is asked of it.
    """
    database = connect(home, patient)
    try:
        yield database
    except PyMongoError as error:
        raise UnavailableError(_reason(error)) from None
    finally:
        database.client.close()


def _reason(error: PyMongoError) -> str:
    """What an error of the driver's means, in one line."""
    if isinstance(error, OperationFailure) and error.code in (8000, 18):
        return "MongoDB refuses the credentials"
    if isinstance(error, OperationFailure) and error.code == 13:
        return "MongoDB does not let this user write"
    return f"MongoDB does not answer ({redaction.redact(str(error).split(',')[0])[:120]})"


def reader_url(home: Path) -> str:
    """The URL for Omniboard; with the embedded server it is that of a user who can only read.

    Raises:
        UnavailableError: there is no server.
    """
    name = database_name()
    if not url():
        state = _ensure(home)
        password = state["passwords"][AUDITOR]
        return f"mongodb://{AUDITOR}:{password}@127.0.0.1:{state['port']}/{name}?authSource=admin"
    scheme, _, rest = url().partition("://")
    before, _, query = rest.partition("?")
    hosts, _, own = before.partition("/")
    if "authSource=" not in query:  # it is the database of the path, which is replaced here
        query = f"authSource={own or 'admin'}" + (f"&{query}" if query else "")
    return f"{scheme}://{hosts}/{name}?{query}"


def status(home: Path) -> str:
    """One line about the database, for people."""
    if url() == "off":
        return "switched off (IJEPA_MONGO_URL=off): the journal alone is written"
    if url():
        connect(home).client.close()
        return f"answers: {redaction.address(url())}"
    state = _state(home / "mongo")
    if state is None or not _runs(state):
        return "not running; it is started when it is needed"
    answer = "running" if _answers(state) else "process is there but does not answer"
    return f"{answer}: 127.0.0.1:{state['port']}, process {state['pid']}, {home / 'mongo'}"


def stop(home: Path) -> bool:
    """End the embedded server; False when it did not run."""
    if not (home / "mongo").is_dir():
        return False
    with locked(home / "mongo" / "lock", 25):
        state = _state(home / "mongo")
        if state is None or not _runs(state):
            return False
        _end(state)
        return True


def locked(path: Path, seconds: float) -> AbstractContextManager[None]:
    """Hold a lock file alone; raises ``UnavailableError`` if another process does for longer."""
    return files.locked(path, seconds, UnavailableError(f"another process holds {path}"))


def _wait(done: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def _ensure(home: Path, limits: dict[str, Any] = LIMITS) -> dict[str, Any]:
    """Start the embedded server unless it runs; its port, process and passwords."""
    folder = home / "mongo"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise UnavailableError(f"{folder}: {error.strerror}") from None
    with locked(folder / "lock", 25):
        state = _state(folder)
        if state is None or not state["provisioned"]:
            return _provision(folder, state)
        if _runs(state):
            if _answers(state, limits):
                return state
            raise UnavailableError(
                f"the embedded MongoDB (process {state['pid']}) does not answer;"
                " `python -m ijepa db stop` ends it"
            )
        return _start(folder, state, "--auth")


def _provision(folder: Path, cut_off: dict[str, Any] | None) -> dict[str, Any]:
    """Make the two users, which needs a start without passwords; then start with them.

    In between, anybody of this machine could have made a user of his own. So what is there is
    looked at once nobody can: users or data that are not ours are removed, with all the rest.

    ``cut_off`` is what an earlier attempt left that was killed: its server may still run.
    """
    if cut_off is not None:
        _end(cut_off)
    passwords = {name: secrets.token_urlsafe(24) for name in (OWNER, AUDITOR)}
    state = _start(folder, {"port": 0, "passwords": passwords, "provisioned": False})
    roles = {OWNER: ["root"], AUDITOR: [{"role": "read", "db": database_name()}]}
    with _client(state, None) as client:
        for name, password in passwords.items():
            with contextlib.suppress(OperationFailure):  # there is none, unless we were cut off
                client.admin.command("dropUser", name)
            client.admin.command("createUser", name, pwd=password, roles=roles[name])
    _end(state)
    state = _start(folder, state, "--auth")
    if strangers := _strangers(state):
        _end(state)
        shutil.rmtree(folder / "db")
        (folder / "server.json").unlink()
        raise UnavailableError(
            f"somebody else wrote to the embedded MongoDB while it was made ({strangers[0]}); it"
            " is removed, and made again when it is needed"
        )
    state = {**state, "provisioned": True}
    _write(folder / "server.json", state)
    return state


def _strangers(state: dict[str, Any]) -> list[str]:
    """Users and databases of a new server that ``_provision`` did not make."""
    with _client(state, OWNER) as client:
        users = {str(user["_id"]) for user in client.admin["system.users"].find()}
        databases = set(client.list_database_names()) - {"admin", "config", "local"}
    return sorted((users - {f"admin.{name}" for name in (OWNER, AUDITOR)}) | databases)


def _end(state: dict[str, Any]) -> None:
    """Stop a server and wait for it."""
    if not _runs(state):
        return
    os.kill(state["pid"], signal.SIGCONT)  # a stopped process does not see SIGTERM
    os.kill(state["pid"], signal.SIGTERM)
    if not _wait(lambda: not _runs(state), 20):
        os.kill(state["pid"], signal.SIGKILL)  # its log makes good what it had acknowledged
        _wait(lambda: not _runs(state), 5)


def _start(folder: Path, state: dict[str, Any], *options: str) -> dict[str, Any]:
    program = Path(sys.executable).parent / "secantusd-py"
    if not program.is_file():
        raise UnavailableError(f"{program} is missing: pip install SecantusDB")
    log = folder / "server.log"
    # whoever started one may have been killed before server.json had it: it holds the database
    process.kill_with(program.name, "--storage-path", str(folder / "db"))
    for port in dict.fromkeys((state["port"], 0)):  # the one it had; if that is taken, any
        with log.open("wb") as output:
            server = subprocess.Popen(
                [program, "--host", "127.0.0.1", "--port", str(port), "--cache-size", "128M",
                 "--storage-path", folder / "db", *options],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder,
                start_new_session=True,  # it outlives the stage, and Ctrl-C is not meant for it
            )  # fmt: skip
        if said := process.port(server, log, rb"listening on [\d.]+:", 20):
            server.returncode = 0  # it outlives us on purpose; Python warns of forgotten children
            mark = process.mark(server.pid)
            started = {**state, "port": said, "pid": server.pid, "process": mark}
            _write(folder / "server.json", started)
            return started
        server.kill()
        server.wait()
    raise UnavailableError(f"the embedded MongoDB does not start: see {log}")


def _client(
    state: dict[str, Any], user: str | None, limits: dict[str, Any] = LIMITS
) -> pymongo.MongoClient[dict[str, Any]]:
    login: dict[str, Any] = {}
    if user:
        login = {"username": user, "password": state["passwords"][user], "authSource": "admin"}
    # journal: without it SecantusDB acknowledges writes that a kill within 0.2 s loses
    return pymongo.MongoClient("127.0.0.1", state["port"], journal=True, **limits, **login)


def _answers(state: dict[str, Any], limits: dict[str, Any] = LIMITS) -> bool:
    """Whether our server answers: SCRAM proves to both sides that the other knows the password."""
    with contextlib.suppress(PyMongoError), _client(state, OWNER, limits) as client:
        client.admin.command("ping")
        return True
    return False


def _runs(state: dict[str, Any]) -> bool:
    return state["process"] is not None and process.mark(state["pid"]) == state["process"]


def _state(folder: Path) -> dict[str, Any] | None:
    """Port, process and passwords of the embedded server; None where none was made.

    Raises:
        UnavailableError: the file is damaged; one line.
    """
    path = folder / "server.json"
    if not path.is_file():
        return None
    try:
        state = files.read_json(path)
        passwords = {name: str(state["passwords"][name]) for name in (OWNER, AUDITOR)}
        return {
            "port": int(state["port"]),
            "passwords": passwords,
            "provisioned": bool(state["provisioned"]),
            "pid": state["pid"],
            "process": state["process"],
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UnavailableError(
            f"{path}: damaged, and the passwords with it; end the server that has {folder} in"
            f" `ps`, `rm -r {folder}`, and `ijepa runs sync` makes the database anew"
        ) from None


def _write(path: Path, state: dict[str, Any]) -> None:
    """Write atomically, readable by the owner alone: the passwords are in it."""
    with files.replacing(path) as partial:
        partial.touch(0o600)
        partial.write_text(json.dumps(state))
