"""The ijepa command."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from test_tracking_journal import record

from ijepa import cli, commands, config, presets
from ijepa.arguments import SHELLS
from ijepa.runtime import environment, files
from ijepa.study import catalogue, experiment, lock, vouch
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


@pytest.mark.parametrize("name", sorted(p.stem for p in commands.PRESETS.glob("*.yaml")))
def test_every_preset_resolves_and_its_arguments_say_the_same(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    about, changes = commands.checked_preset(name)
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
    texts = [f"{key}={commands._hydra(key, value)}" for key, value in values.items()]
    parsed = parser.OverridesParser.create().parse_overrides(texts)
    assert {override.key_or_group: override.value() for override in parsed} == values
    with pytest.raises(ValueError, match="a space"):
        commands._hydra("a.j", "two words")


def test_a_wrong_preset_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "PRESETS", tmp_path)
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
    commands.checked_preset("cifar10")
    assert config.PARAMS.read_text() == before


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["reprot"], "COMMAND: 'reprot' is not one of .*; did you mean report\\?"),
        (["runs", "lst"], "runs: action: 'lst' is not one of list, show, .*; did you mean list"),
        (
            ["ablate", "--dryrun"],
            "ablate: '--dryrun' is no argument of it; did you mean --dry-run",
        ),
        (["ablate", "loss", "--scal=smoke", "--jbos=2"], "'--jbos=2' .* did you mean --jobs\\?"),
        (["export", "out"], "the following arguments are required: --format"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_a_mistyped_command_is_one_line_with_what_was_meant(
    argv: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert re.match(f"error: ijepa.*{line}.*; see ijepa.* --help\n$", err), err


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert capsys.readouterr().out == f"ijepa {stated}\n"
    assert metadata.version("ijepa") == stated


def test_the_list_has_every_experiment_in_a_line_that_fits(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["ablate", "--list"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["experiment", "table", "known", "title"]
    assert [line.split()[0] for line in lines] == experiment.names()
    assert max(map(len, lines)) <= catalogue.WIDTH
    assert cli.main(["ablate", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    for line, one in zip(lines, listed, strict=True):
        loaded = experiment.load(one["name"])
        assert (one["title"], one["table"]) == (loaded.title, loaded.table)
        assert line.split()[1] == str(loaded.table or "–")
        assert ("  nothing  " in line) == (not one["known"])
        assert set(one["known"]) == {s for name, s in lock.listing() if name == one["name"]}


def test_the_list_tells_what_would_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results of older code are none of today's, failed runs none at all, and some never ran."""
    stands = {"l2/0": "today", "l2/1": "vouched", "smooth_l1/0": "older", "smooth_l1/1": "older"}
    results = {key: {"status": "done"} for key in stands} | {"smooth_l1/1": {"status": "failed"}}
    content = {"seeds": [0, 1, 2], "results": results}
    monkeypatch.setattr(lock, "read", lambda *_: content)
    monkeypatch.setattr(vouch, "standing", lambda *_: stands)
    monkeypatch.setattr(lock, "listing", lambda: [("loss", "smoke"), ("losses", "gpu")])
    monkeypatch.setattr(catalogue, "names", lambda: ["loss"])
    (one,) = catalogue.entries()
    known = catalogue.Known(seeds=3, runs=3, older=1, failed=1, missing=2)
    assert one.known == {"smoke": known}
    assert "smoke 3 seeds, 1 older, 1 failed, 2 missing" in catalogue.table([one])
    stands |= {"l2/0": "older", "l2/1": "older"}
    results["smooth_l1/1"] = {"status": "done"}
    content["seeds"] = [0, 1]
    assert "smoke 2 seeds, older  " in catalogue.table(catalogue.entries())


def test_scripts_read_the_runs_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    record(lambda run: run.log("loss", 0.25, 7) or 52.5)
    capsys.readouterr()
    assert cli.main(["runs", "list", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert cli.main(["runs", "show", str(listed["id"]), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == listed
    expected = dataclasses.asdict(runs.one(listed["id"]))
    assert listed == json.loads(json.dumps(expected, default=str))
    assert cli.main(["runs", "show", "99", "--json"]) == 2
    for argv in (["runs", "sync", "--json"], ["ablate", "loss", "--scale", "smoke", "--json"]):
        assert cli.main(argv) == 2
        assert "--json: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("list 7", "7: not with runs list, which is of all runs"),
        ("sync 7", "7: not with runs sync, which is of all runs"),
        ("list --all", "--all: not with runs list"),
        ("show 7 --all", "--all: not with runs show"),
        ("sync --all", "--all: not with runs sync"),
        ("import runs.tar.gz --all", "--all: not with runs import"),
    ],
)
def test_what_an_action_does_not_take_is_refused(
    words: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["runs", *words.split()]) == 2
    assert capsys.readouterr().err == f"error: {line}\n"


def completed(words: str, *, cwd: Path = ROOT) -> set[str]:
    """What bash offers after these words."""
    script = subprocess.run(
        [sys.executable, "-m", "ijepa", "completion", "bash"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    script += """
read -ra COMP_WORDS <<< "$1"; [[ $1 == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
function=$(complete -p ijepa | sed 's/.*-F \\([^ ]*\\) .*/\\1/'); $function
printf '%s\\n' "${COMPREPLY[@]}"
"""
    done = subprocess.run(["bash", "-c", script, "bash", words], cwd=cwd, capture_output=True,
                          text=True, check=True)  # fmt: skip
    return set(done.stdout.split())


def test_bash_completes_commands_options_and_names_of_files() -> None:
    assert completed("ijepa repo") == {"report"}
    assert {"list", "show", "sync"} <= completed("ijepa runs ")
    assert completed("ijepa ablate --dr") == {"--dry-run"}
    targets = {name for name in experiment.names() if name.startswith("target_s")}
    assert len(targets) > 1
    assert completed("ijepa ablate target_s") == targets
    scales = {path.stem for path in (ROOT / "experiments/scales").glob("*.yaml")}
    assert completed("ijepa ablate loss --scale ") == scales
    assert completed("ijepa preset vit_h14_") == {"vit_h14_official"}


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_gets_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "ijepa" in script
    assert "checkpoints" in script
    if tool := shutil.which(shell):
        subprocess.run([tool, "-n"], input=script, text=True, check=True, capture_output=True)


def test_what_commands_write_by_default_git_ignores() -> None:
    """All of their outputs lie where git looks for nothing new."""
    parser = cli._parser()
    actions = next(a for a in parser._actions if isinstance(a.choices, dict))
    assert isinstance(actions.choices, dict)
    written = [
        action.default
        for command in ("masks", "evaluate", "verify")
        for action in actions.choices[command]._actions
        if isinstance(action.default, Path)
    ]
    assert written
    written += [path.with_suffix(".svg") for path in written if path.suffix == ".png"]
    done = subprocess.run(["git", "check-ignore", *map(str, written)], cwd=ROOT,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.stdout.split() == [str(path) for path in written]


@pytest.mark.parametrize(
    "argv",
    [["verify", "nowhere"], ["masks", "--out", "{}/m.png"], ["evaluate", "--encoder", "nowhere"],
     ["export", "--format", "timm", "--encoder", "nowhere", "{}/e"], ["report", "--check"]],
    ids=lambda argv: argv[0],
)  # fmt: skip
def test_a_command_says_what_it_begins_before_it_loads_torch(
    argv: list[str], tmp_path: Path
) -> None:
    script = (
        "import sys, builtins\n"
        "from ijepa import cli\n"
        "class Loads(Exception): pass\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name in ('torch', 'matplotlib'): raise Loads\n"
        "sys.meta_path.insert(0, Finder())\n"
        "try: cli.main(sys.argv[1:])\n"
        "except Loads: print('loads', file=sys.stderr)\n"
    )
    words = [word.format(tmp_path) for word in argv]
    done = subprocess.run([sys.executable, "-c", script, *words], cwd=ROOT, capture_output=True,
                          text=True, check=True)  # fmt: skip
    lines = done.stderr.splitlines()
    assert lines[-1] == "loads", done.stderr
    assert lines[0].endswith(" ...")


def test_nothing_that_git_ignores_is_committed() -> None:
    """What is built or computed, such as the API reference, is of the checkout that made it."""
    command = ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == ""
