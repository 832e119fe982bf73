"""Stage 4: one page, figures, Markdown and a JSON of everything, from the other stages' files.

``python -m ijepa.report --line`` prints the report's last line again.
"""

import sys
from pathlib import Path

from ijepa import config as configs
from ijepa.pages import text
from ijepa.runtime import errors, files

FOLDER = Path("out/report")
OUTS = tuple(FOLDER / name for name in ("index.html", "report.md", "results.json"))


def main() -> None:
    """Build the report, or with ``--line`` say again where it is and what it found."""
    if sys.argv[1:] not in ([], ["--line"]):
        raise ValueError(f"python -m ijepa.report: {' '.join(sys.argv[1:])!r} is not --line")
    if not sys.argv[1:]:
        report()
    print(line())


def report() -> None:
    """Build the report of the run in the working directory, and record that."""
    from ijepa.pages import run as page  # torch and matplotlib: seconds that --line need not wait
    from ijepa.tracking import journal

    settings = configs.load()

    def body(run: journal.Run) -> float | None:
        results = page.build(settings, FOLDER)
        files.write_sums(FOLDER, [path.name for path in OUTS])
        for path in OUTS:
            run.artifact(path)
        for path in sorted((FOLDER / "figures").glob("*.png")):
            run.artifact(path)
        return results.accuracy

    journal.record("report", settings, body, outs=OUTS)


def line(folder: Path = FOLDER) -> str:
    """Where the report is, and its headline.

    Raises:
        ValueError: there is no report, or it is damaged.
    """
    path = folder / "results.json"
    if not path.is_file():
        raise ValueError(f"{path}: no such file; `dvc repro` makes it")
    files.check_sums(folder, [path.name], "`dvc repro -f report`")
    results = files.read_json(path)  # untyped: the types import torch
    task, probe = results["headline"]
    rows = {r["encoder"]: r for r in results["table"] if (r["task"], r["probe"]) == (task, probe)}
    trained = rows.pop("trained", None)
    if trained is None:
        said = f" (no accuracy of {task} {probe})"
    else:
        others = ", ".join(
            f"{name.replace('_', ' ')} {text.number(row['accuracy'])}"
            for name, row in rows.items()
        )
        accuracy = text.plus_minus(trained["accuracy"], trained["low"], trained["high"])
        said = f" — {text.spoken(task)} {text.spoken(probe)} {accuracy} %"
        said += f" ({others})" if others else ""
    return f"report: {folder / 'index.html'}{said}; Omniboard: make omniboard"


if __name__ == "__main__":
    sys.exit(errors.run(main))
