"""Nothing that may be a secret is written: a canary in every place that takes free text."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, TINY, params
from ruamel.yaml import YAML

from ijepa.runtime import environment
from ijepa.tracking import redaction

URLS = {  # a value of IJEPA_MONGO_URL -> what may be written of it; its secret has CANARY in it
    "mongodb://u:CANARYpw@127.0.0.1:9/": "mongodb://***@127.0.0.1:9",
    "mongodb+srv://u:CANARYpw@no.such.host.invalid/": "mongodb+srv://***@no.such.host.invalid",
    "mongodb://u:CANARY?pw@127.0.0.1:9/": "***",
    "mongodb://u:CANARY#pw@127.0.0.1:9/": "***",
    "mongodb://u:CANARY/pw@127.0.0.1:9/": "***",
    "mongodb://u:CANARY pw@127.0.0.1:9/": "***",
    "mongodb://:CANARYpw@127.0.0.1:9/": "mongodb://***@127.0.0.1:9",
    "mongodb://127.0.0.1:9/?tls=true&tlsCertificateKeyFilePassword=CANARYpw"
    "&tlsCertificateKeyFile=/x.pem": "mongodb://127.0.0.1:9",
    "CANARYpw://x": "***",
    "CANARYpw": "***",
    "mongodb://CANARYtoken@h1:1,h2:2/": "mongodb://***@h1:1,h2:2",
    "mongodb://user/CANARY@host/": "***",
    "mongodb://h/?appName=a@CANARY": "***",
    "mongodb://[::1]:9/db": "mongodb://[::1]:9",
    "off": "off",
    "": "",
}


@pytest.mark.parametrize("url", URLS)
def test_scheme_host_and_port_alone_are_written(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert redaction.address(url) == URLS[url]
    monkeypatch.setenv("IJEPA_MONGO_URL", url)
    assert redaction.settings()["IJEPA_MONGO_URL"] == URLS[url]
    for text in (url, f"could not open {url}: refused", "CANARYpw is wrong", "the CANARY"):
        shown = redaction.redact(text)
        secret = [word for word in redaction._secrets(url) if word in shown]
        assert not secret, shown
    assert "CANARY" not in redaction.redact(f"error: {url}")
    assert (
        redaction.redact("step 12/100 ijepa 127.0.0 true w") == "step 12/100 ijepa 127.0.0 true w"
    )


def test_free_text_for_other_programs_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IJEPA_SBATCH", "--export=TOKEN=CANARY")
    monkeypatch.setenv("IJEPA_TORCHRUN", "--rdzv-conf token=CANARY")
    settings = redaction.settings()
    assert settings.keys() == environment.VARIABLES.keys()
    assert (settings["IJEPA_SBATCH"], settings["IJEPA_TORCHRUN"]) == ("***", "***")
    assert redaction.redact("sbatch: bad --export=TOKEN=CANARY") == "sbatch: bad ***"
    assert settings["IJEPA_PRECISION"] == "auto"


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    with contextlib.suppress(OSError, ValueError):
        os.kill(json.loads((tmp_path / "home/mongo/server.json").read_text())["pid"], 9)


STAGE = """
import contextlib, os, sys
from pathlib import Path
from ijepa import config
from ijepa.runtime import errors
from ijepa.tracking import journal

def body(run):
    sizes = [len(os.environ[name]) for name in os.environ if name.startswith("IJEPA_")]
    ours = Path.cwd()  # of this process, its children and the database's server
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink().is_relative_to(ours):
                assert b"CANARY" not in (process / "cmdline").read_bytes()
                sizes.append(process.name)
    assert str(os.getpid()) in sizes
    run.info(url=len(sizes))
    print("connecting to", os.environ["IJEPA_MONGO_URL"].partition("CANARY")[0][:8])
    if sys.argv[1] == "fails":
        raise ValueError("the database said no")
    return 1.0

sys.exit(errors.run(lambda: journal.record("evaluate", config.load(), body)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("url", [*list(URLS)[:9], ""])
def test_a_canary_in_every_variable_is_found_nowhere(
    url: str, tmp_path: Path, embedded: Path
) -> None:
    """Journal, database, output, process list; IJEPA_HOME and the like are places, no secrets."""
    with (tmp_path / "params.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(params(**TINY), file)
    variables = {
        **os.environ, "PYTHONPATH": str(ROOT), "IJEPA_HOME": str(embedded),
        "IJEPA_MONGO_URL": url, "IJEPA_SBATCH": "--comment=CANARY",
        "IJEPA_TORCHRUN": "--rdzv-conf=CANARY",
    }  # fmt: skip

    def call(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=variables, capture_output=True,
            text=True, timeout=120, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout + done.stderr

    Path(tmp_path / "stage.py").write_text(STAGE)
    shown = call("stage.py", "works") + call("stage.py", "fails")
    (tmp_path / "stage.py").unlink()
    for command in (["runs", "list"], ["runs", "sync"], ["env"], ["db", "status"]):
        shown += call("-m", "ijepa", *command)
    shown += call("-m", "ijepa", "runs", "show", sorted(os.listdir(embedded / "runs"))[0])  # noqa: PTH208
    assert "CANARY" not in shown
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 8
    assert not [path for path in files if b"CANARY" in path.read_bytes()]
    if not url:  # the embedded database: what it would show of a run
        assert "2 were there already" in shown


def test_a_warning_of_the_driver_shows_no_value(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    from ijepa.tracking import mongo

    url = "mongodb://127.0.0.1:9/?maxPoolSize=CANARY&unknown=CANARY"
    monkeypatch.setenv("IJEPA_MONGO_URL", url)
    limits: dict[str, Any] = {**mongo.LIMITS, "serverSelectionTimeoutMS": 50}
    monkeypatch.setattr(mongo, "LIMITS", limits)
    with pytest.raises(mongo.UnavailableError) as error:
        mongo.connect(tmp_path)
    assert "CANARY" not in str(error.value)
    assert not [w for w in recwarn if "CANARY" in str(w.message)]


@pytest.mark.parametrize("name", ["a.b", "x y", "$", "a/b", "ä", "x" * 64])
def test_a_name_that_no_database_can_have_is_one_line(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from ijepa.tracking import mongo

    monkeypatch.setenv("IJEPA_MONGO_DB", name)
    monkeypatch.delenv("IJEPA_MONGO_URL", raising=False)
    for call in (mongo.connect, mongo.reader_url):
        with pytest.raises(mongo.UnavailableError, match=r"^IJEPA_MONGO_DB: .* is not a name of"):
            call(tmp_path)
    assert not (tmp_path / "mongo").exists(), "no server is started for it"
