"""The ijepa command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_tracking_journal import record

from ijepa import cli, config, presets
from ijepa.runtime import environment, files
from ijepa.tracking import runs

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("IJEPA_HOME", str(tmp_path))
    monkeypatch.setenv("IJEPA_MONGO_URL", "off")
    return tmp_path


def test_help_names_the_stages_and_loads_nothing_heavy() -> None:
    script = (
        "import sys; from ijepa import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'numpy', 'sacred', 'pymongo') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    *text, loaded = done.stdout.splitlines()
    assert loaded == "[]"
    for word in ("make repro", "prepare", "pretrain", "evaluate", "report", "omniboard"):
        assert any(word in line for line in text), word


def test_env_shows_every_variable_and_no_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IJEPA_MONGO_URL", "mongodb://me:CANARY@db.invalid:27017/?authSource=admin")
    assert cli.main(["env"]) == 0
    out = capsys.readouterr().out
    assert [line.partition("=")[0] for line in out.splitlines()] == list(environment.VARIABLES)
    assert "db.invalid:27017" in out
    assert "CANARY" not in out


@pytest.mark.parametrize("name", sorted(p.stem for p in cli.PRESETS.glob("*.yaml")))
def test_every_preset_resolves_and_its_arguments_say_the_same(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    about, changes = cli.preset(name)
    assert about
    assert cli.main(["preset", name]) == 0
    words = capsys.readouterr().out.split()  # as an unquoted $(...) splits them
    assert words[::2] == ["-S"] * len(changes)
    said = dict(word.split("=", 1) for word in words[1::2])
    there = presets.leaves(files.read_yaml(config.PARAMS))
    said = {key.removeprefix("++"): said[key] for key in said if ("++" in key) != (key in there)}
    assert list(said) == list(changes)
    for key, value in changes.items():
        assert said[key] == value if isinstance(value, str) else json.loads(said[key]) == value


def test_presets_are_read_by_hydra_as_they_are_meant() -> None:
    parser = pytest.importorskip("hydra.core.override_parser.overrides_parser")
    values = {"a.b": "cifar10", "a.c": [0.15, 0.2], "a.d": 1e-06, "a.e": True, "a.f": None,
              "a.g": "x=y", "a.h": "imagenet/train", "a.i": 300}  # fmt: skip
    texts = [f"{key}={cli._hydra(key, value)}" for key, value in values.items()]
    parsed = parser.OverridesParser.create().parse_overrides(texts)
    assert {override.key_or_group: override.value() for override in parsed} == values
    with pytest.raises(ValueError, match="a space"):
        cli._hydra("a.j", "two words")


def test_a_wrong_preset_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "PRESETS", tmp_path)
    for text, message in (
        (
            "mask.target_scal: 0.2",
            "mask.target_scal: params.yaml has no such key; did you mean mask.target_scale?",
        ),
        ("train.lr: -1", "train.lr: -1 is not a number in (0, inf)"),
    ):
        (tmp_path / "odd.yaml").write_text(text)
        assert cli.main(["preset", "odd"]) == 2
        assert capsys.readouterr().err == f"error: {tmp_path}/odd.yaml: {message}\n"
    assert cli.main(["preset", "other"]) == 2
    assert "'other' is not one of odd" in capsys.readouterr().err


def test_runs_list_and_show(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs", "list"]) == 0
    assert "no runs yet" in capsys.readouterr().out
    record(lambda run: run.log("loss", 0.25, 7) or 52.5)
    (run,) = runs.listing(home)
    capsys.readouterr()
    assert cli.main(["runs", "list"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["id", "stage", "status"]
    assert row.split()[:3] == [str(run.id), "evaluate", "COMPLETED"]
    assert "52.5" in row
    assert cli.main(["runs", "show", str(run.id)]) == 0
    assert "loss: 1 points, last 0.25 at step 7" in capsys.readouterr().out
    assert cli.main(["runs", "show", "5"]) == 2
    assert cli.main(["runs", "show"]) == 2


def test_a_database_that_is_off_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs", "sync"]) == 1
    assert capsys.readouterr().err == "error: IJEPA_MONGO_URL is off\n"
    assert cli.main(["omniboard"]) == 2
    assert "Omniboard needs the database: IJEPA_MONGO_URL is off" in capsys.readouterr().err
    assert cli.main(["db", "start"]) == 1
    assert cli.main(["db", "stop"]) == 0
    assert "not running" in capsys.readouterr().out


def test_the_presets_leave_params_yaml_as_it_is() -> None:
    before = config.PARAMS.read_text()
    cli.preset("cifar10")
    assert config.PARAMS.read_text() == before
