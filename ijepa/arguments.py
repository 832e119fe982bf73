"""How `ijepa` reads its arguments: a mistake is one line, and shells complete them."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ijepa.runtime.errors import closest, plain

SHELLS = ("bash", "zsh", "fish", "tcsh")
_NAMED = {  # what an argument of this name is the name of: a file without .yaml, in this folder
    "names": "experiments",
    "ablation": "experiments",
    "scale": "experiments/scales",
    "name": "experiments/presets",
}


class Parser(argparse.ArgumentParser):
    """Refuses in one line that says what is allowed, or what may have been meant."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        # argparse lists every choice and guesses none (before Python 3.14)
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            allowed = f"is not one of {', '.join(known)}{closest(value, known)}"
            raise argparse.ArgumentError(action, f"{value!r} {allowed}")

    def error(self, message: str) -> NoReturn:
        """Print the line and exit with status 2."""
        line = f"error: {self.prog}: {message.removeprefix('argument ')}; see {self.prog} --help"
        print(plain(line), file=sys.stderr)
        raise SystemExit(2)

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """The arguments; what is none of its command's is refused in the command's name."""
        args, unknown = self.parse_known_args(argv)
        if unknown:
            command: Parser = args.parser
            options = [name for action in command._actions for name in action.option_strings]
            given = unknown[0].partition("=")[0]
            command.error(f"{unknown[0]!r} is no argument of it{closest(given, options)}")
        return args


class Version(argparse.Action):
    """Prints the installed version of this project."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print and exit."""
        from importlib import metadata  # help and every command need not wait for it

        print(f"{parser.prog} {metadata.version('ijepa')}")
        parser.exit()


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """A script that makes a shell complete commands, options, files and names of experiments.

    Args:
        parser: of the command and all its commands.
        shell: one of ``SHELLS``.
    """
    import shtab

    for action in _actions(parser):
        if action.dest in _NAMED:  # looked up when Tab is pressed: a new file is there at once
            files = f"{_NAMED[action.dest]}/*.yaml"
            names = shtab.cmd(f"basename -a -s .yaml {files} 2>/dev/null")
            action.complete = names  # type: ignore[attr-defined]
        elif action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    script: str = shtab.complete(parser, shell)
    return script


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The arguments of a parser and of all its commands."""
    for action in parser._actions:
        yield action
        for command in action.choices.values() if isinstance(action.choices, dict) else ():
            yield from _actions(command)
