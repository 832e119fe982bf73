"""What Omniboard is given of a run: columns of one quantity each, and series worth a line."""

import http.client
import math
from pathlib import Path
from typing import Any

import pytest
from test_tracking_journal import Science, record
from test_tracking_journal import home as home  # a fixture

from ijepa.tracking import document, journal, links, omniboard, runs

TIME = "2026-11-26T12:00:00"


def series(**values: float | list[float]) -> dict[str, dict[str, Any]]:
    """Points of each name; ``__`` stands for a dot."""
    lists = {n.replace("__", "."): v if isinstance(v, list) else [v] for n, v in values.items()}
    return {
        name: {"steps": list(range(len(v))), "values": v, "timestamps": [TIME] * len(v)}
        for name, v in lists.items()
    }


def config(stage: str, probes: tuple[str, ...] = ("linear", "knn")) -> dict[str, Any]:
    return {"stage": stage, "params": {"evaluate": {"probes": list(probes)}}}


def made(stage: str, result: float | None, points: dict[str, dict[str, Any]]) -> dict[str, Any]:
    run = {"start_time": TIME, "heartbeat": TIME, "stop_time": None, "result": result}
    return document.build(run, config(stage), {"cores": 2}, "", points)


def test_what_a_run_costs_and_single_numbers_are_no_series() -> None:
    training = ("loss", "rankme", "feature_std", "lr", "weight_decay", "ema", "context_ratio")
    costs = (
        "flops",
        "flops_useful",
        "images",
        "images_per_second",
        "eta",
        "memory_gib",
        "waiting",
    )
    numbers = ("seconds", "test.images", "test.skipped", "eval.class.linear.trained")
    logged = [
        *(f"train.{name}" for name in (*training, *costs)),
        *numbers,
        "loss",
        "flops_of_mine",
    ]
    drawn = document.charted({name: series(x=[1.0, 2.0])["x"] for name in logged})
    assert set(drawn) == {*(f"train.{name}" for name in training), "loss", "flops_of_mine"}
    assert drawn["loss"]["values"] == [1.0, 2.0]


def test_every_series_has_its_last_value_in_the_document() -> None:
    points = series(train__loss=[1.0, 0.123456789], train__images=[16.0, 1234567.0], empty=[])
    last = made("pretrain", 18.0, points)["info"]["last"]
    assert last == {"train_loss": 0.12346, "train_images": 1234567.0}  # counts stay whole
    assert math.isnan(made("pretrain", None, series(a=math.nan))["info"]["last"]["a"])
    assert "last" not in made("prepare", 25000.0, {})["info"]


@pytest.mark.parametrize(
    ("stage", "result"), [("prepare", None), ("pretrain", None), ("evaluate", 52.1)]
)
def test_a_result_is_an_accuracy_or_nothing(stage: str, result: float | None) -> None:
    assert made(stage, 52.1, {})["result"] == result


def test_the_headline_has_the_baselines_of_its_own_task_and_probe() -> None:
    points = series(
        eval__count__linear__trained=60.0, eval__count__linear__random_init=1.0,
        eval__class__linear__trained=52.1, eval__class__linear__random_init=37.3,
        eval__class__linear__pixels=41.4, eval__class__knn__trained=52.1,
        eval__class__knn__random_init=2.0,
    )  # fmt: skip
    expected = {"of": "class linear", "trained": 52.1, "random_init": 37.3, "pixels": 41.4}
    assert made("evaluate", 52.1, points)["info"]["headline"] == expected
    assert "headline" not in made("pretrain", 52.1, points)["info"]
    assert "headline" not in made("evaluate", None, points)["info"]


def test_where_two_tasks_have_the_result_no_baseline_is_taken_for_its() -> None:
    points = series(
        eval__class__linear__trained=52.1, eval__class__linear__random_init=37.3,
        eval__count__linear__trained=52.1, eval__count__linear__random_init=1.0,
    )  # fmt: skip
    assert made("evaluate", 52.1, points)["info"]["headline"] == {"trained": 52.1}


def test_ids_of_series_are_the_same_at_every_sync_and_apart() -> None:
    ids = {document.series_id(uuid, name) for uuid in "ab" for name in ("loss", "rankme")}
    assert len(ids) == 4
    assert document.series_id("a", "loss") in ids


def test_no_column_joins_series_and_each_has_a_name_of_its_own() -> None:
    assert not [path for path in omniboard.FIELDS.values() if path.startswith("metrics")]
    names = [*omniboard.SHOWN, *omniboard.HIDDEN]
    assert len(set(names)) == len(names)
    assert set(omniboard.FIELDS) <= set(names)
    assert "result" not in omniboard.SHOWN
    assert not [name for name in omniboard.SHOWN if name.startswith("c_")]


def test_only_runs_that_changed_or_go_on_are_looked_at_again(home: Path) -> None:
    for _ in range(3):
        record(lambda run: run.log("loss", 1.0, 0))
    ended, changed, going = (run.folder for run in runs.listing(home))
    text = (going / "run.json").read_text().replace('"COMPLETED"', '"RUNNING"')
    (going / "run.json").write_text(text)
    before = omniboard._stamps(home)
    (ended / ".sync").touch()  # a sync is no change
    (changed / "metrics.json").write_text((changed / "metrics.json").read_text() + " ")
    after = omniboard._stamps(home)
    assert {run for run in after if after[run] != before[run]} == {
        int(changed.name), int(going.name),
    }  # fmt: skip


def test_a_run_leads_to_its_report_commit_and_data_and_back(home: Path, tmp_path: Path) -> None:
    report = tmp_path / "index.html"
    report.write_text("<html><body class=x><h1>the report</h1></body></html>")

    def stage(name: str, body: Any, data: str) -> int:
        journal.record(name, Science(), body, data=data)
        return runs.listing(home)[0].id

    prepared = stage("prepare", lambda run: None, "5f" * 32)
    trained = stage("pretrain", lambda run: None, "5f" * 32)
    other = stage("prepare", lambda run: None, "77" * 32)
    assert links.page(home, "BOARD/", f"/run/{trained}/report").status == 404
    journal.record("report", Science(scale=(0.1, 0.2)), lambda run: run.artifact(report))
    assert links.page(home, "BOARD/", f"/run/{trained}/report").status == 404, (
        "of other parameters"
    )
    reported = stage("report", lambda run: run.artifact(report), "5f" * 32)

    def seen(kind: str) -> str:
        page = links.page(home, "BOARD/", f"/run/{trained}/{kind}")
        assert page.status == 200
        assert f"runIdToExpand={trained}&" in page.text.replace("&amp;", "&")
        return page.text

    shown = seen("report")
    assert shown.index("<body class=x>") < shown.index(str(reported)) < shown.index("the report")
    commit = runs.listing(home)[0].commit
    assert f"commit {commit}" in seen("commit")
    data = seen("data")
    assert "5f" * 32 in data
    assert str(prepared) in data
    assert str(other) not in data
    for longer in (f"/run/{trained}/data/", f"/x/run/{trained}/data"):
        assert links.page(home, "BOARD/", longer).status == 404
    (runs.listing(home)[0].folder / "index.html").write_text("<script>changed</script>")
    damaged = links.page(home, "BOARD/", f"/run/{trained}/report")
    assert damaged.status == 500
    assert "<script>" not in damaged.text


@pytest.mark.parametrize(
    "path", ["/", "/run/1/report", "/run/../../etc/passwd", "/run/1/../x", "/run/x/data"]
)
def test_no_other_path_is_answered(home: Path, path: str) -> None:
    assert links.page(home, "BOARD/", path).status == 404


def test_links_are_for_this_machines_own_names(home: Path) -> None:
    with links.served(home) as server:
        host, port = server.server_address[:2]
        assert host == "127.0.0.1"
        for name, status in {"127.0.0.1": 404, "localhost": 404, "evil.example": 403}.items():
            connection = http.client.HTTPConnection("127.0.0.1", int(port))
            connection.request("GET", "/run/1/data", headers={"Host": f"{name}:{port}"})
            assert connection.getresponse().status == status
            connection.close()
