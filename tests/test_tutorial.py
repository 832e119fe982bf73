"""docs/tutorial.md does what it says: its commands are typed in a fresh clone."""

import os
import re
import subprocess
import sys
from pathlib import Path

from conftest import ROOT

PAGE = ROOT / "docs/tutorial.md"


def blocks() -> list[tuple[str, str]]:
    """The commands of the page in order, each with the output that is printed below it, or ""."""
    pattern = r"```bash\n(.*?)```\n(?:\s*```text\n(.*?)```\n)?"
    return re.findall(pattern, PAGE.read_text(), re.DOTALL)


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


if __name__ == "__main__":  # to write the page anew: what each block printed
    reader = Reader(Path(sys.argv[1]))
    for commands, _ in blocks():
        print(f"$ {commands}{reader.type(commands)}", flush=True)
