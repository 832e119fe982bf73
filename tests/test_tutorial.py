"""docs/tutorial.md does what it says: its commands are typed in a fresh clone, outputs compared.

`python tests/test_tutorial.py FOLDER` types them in a clone there and prints what they print.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

PAGE = ROOT / "docs/tutorial.md"


def blocks(page: str) -> list[tuple[str, str]]:
    """The commands of a page in order, each with the output that stands below it, or ""."""
    pattern = r"```bash\n(.*?)```\n(?:\n```text\n(.*?)```\n)?"
    return re.findall(pattern, page, re.DOTALL)


def shape(text: str) -> list[str]:
    """Lines without what a machine, a clock, an interval or the code decides: numbers, verdicts.

    Nor the names of experiments, which end with a hash of the code, nor spaces.
    """
    text = re.sub(r"\bijepa-[0-9a-f]{12}-[0-9a-f]{4}\b", "ijepa-N", text)
    text = re.sub(r"better than|worse than|not told apart from|[◇▲▼≈] \w+", "V", text)
    text = re.sub(r"[-+−]?\d[\d,.]*", "N", text)
    return [" ".join(re.sub("-{3,}", "-", line).split()) for line in text.splitlines()]


def missing(expected: str, printed: str) -> list[str]:
    """Lines of an expected output that do not come in this order; ``...`` stands for any."""
    lines = iter(shape(printed))
    return [line for line in shape(expected) if line not in ("...", "") and line not in lines]


class Reader:
    """Types commands in a clone, with this environment's programs."""

    def __init__(self, folder: Path) -> None:
        self.clone, programs = folder / "ijepa", folder / "bin"
        subprocess.run(["git", "clone", "--quiet", ROOT, self.clone], check=True)
        programs.mkdir()
        command = programs / "ijepa"  # the installed one is of this checkout, not of the clone
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ijepa "$@"\n')
        command.chmod(0o755)
        own = {k: v for k, v in os.environ.items() if not k.startswith(("IJEPA_", "DVC_"))}
        paths = f"{programs}:{Path(sys.executable).parent}:{own['PATH']}"
        names = {f"GIT_{who}_{what}": "t@t" for who in ("AUTHOR", "COMMITTER")
                 for what in ("NAME", "EMAIL")}  # fmt: skip
        self.env = own | names | {
            "PATH": paths, "IJEPA_MONGO_URL": "off", "IJEPA_THREADS": "1", "OMP_NUM_THREADS": "1",
            "IJEPA_DEVICE": "cpu", "DVC_NO_ANALYTICS": "1",
        }  # fmt: skip

    def type(self, commands: str) -> str:
        done = subprocess.run(
            ["bash", "-e", "-c", commands], cwd=self.clone, env=self.env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=1200, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout


def test_an_output_is_compared_by_its_words_in_their_order() -> None:
    page = "```bash\na\n```\n\n```text\n1\n```\nwords\n```bash\nb\nc\n```\n"
    assert blocks(page) == [("a\n", "1\n"), ("b\nc\n", "")]
    printed = "x\nloss  5.25 here\n| a   | -1.5 |\nends better than 3\n"
    printed += "to do a/0 ijepa-0cc8b13a5069-8cb2\n"
    expected = (
        "loss 7 here\n...\n| a | 1 |\nends worse than 4\nto do a/0 ijepa-0cc8b13a5069-06e3\n"
    )
    assert missing(expected, printed) == []
    assert missing("loss 7 there\n", printed) == ["loss N there"]
    assert missing("| a | 1 |\nloss 7 here\n", printed) == ["loss N here"]


def test_the_page_has_commands_and_what_they_print() -> None:
    typed = blocks(PAGE.read_text())
    assert len(typed) == PAGE.read_text().count("```bash"), "a block that the test does not see"
    assert all(output for _, output in typed)


@pytest.mark.slow
def test_the_tutorial_typed_in_a_fresh_clone_prints_what_it_says(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    for commands, output in blocks(PAGE.read_text()):
        printed = reader.type(commands)
        assert missing(output, printed) == [], printed


if __name__ == "__main__":
    reader = Reader(Path(sys.argv[1]))
    for commands, _ in blocks(PAGE.read_text()):
        print(f"$ {commands}{reader.type(commands)}", flush=True)
