"""Stage 4: one page, figures, Markdown and a JSON of everything, from the other stages' files.

``python -m ijepa.report --line`` prints the report's last line again.
"""

import sys
from pathlib import Path

from ijepa import config as configs
from ijepa.pages.run import words
from ijepa.runtime import errors, files

FOLDER = Path("out/report")
PAGES = ("index.html", *(f"table{number}.html" for number in range(1, 6)))
OUTS = tuple(FOLDER / name for name in (*PAGES, "report.md", "results.json"))


def main() -> None:
    """Build the report, or with ``--line`` say again where it is and what it found."""
    if sys.argv[1:] not in ([], ["--line"]):
        raise ValueError(f"python -m ijepa.report: {' '.join(sys.argv[1:])!r} is not --line")
    if not sys.argv[1:]:
        report()
    print(line())


def report() -> None:
    """Build the report of the run in the working directory, and record that."""
    from ijepa.pages.run import build  # torch and matplotlib: seconds that --line need not wait
    from ijepa.tracking import journal

    settings = configs.load()

    def body(run: journal.Run) -> float | None:
        results = build.build(settings, FOLDER)
        for path in OUTS:
            run.artifact(path)
        for path in sorted((FOLDER / "figures").glob("*.png")):
            run.artifact(path)
        return words.result(results)

    journal.record("report", settings, body, outs=OUTS)


def line(folder: Path = FOLDER) -> str:
    """Where the report is, and its headline.

    Raises:
        ValueError: there is no report.
    """
    path = folder / "results.json"
    if not path.is_file():
        raise ValueError(f"{path}: no such file; `dvc repro` makes it")
    return words.line(files.read_json(path))


if __name__ == "__main__":
    sys.exit(errors.run(main))
