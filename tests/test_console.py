import subprocess
import sys

import pytest

from ijepa import variants
from ijepa.runtime import errors


def failing(error: BaseException) -> int:
    def main() -> None:
        raise error

    return errors.run(main)


def test_status_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert errors.run(lambda: None) == 0
    assert errors.run(lambda: 3) == 3
    assert failing(ValueError("params.yaml: seed: wrong")) == 2
    assert capsys.readouterr().err == "error: params.yaml: seed: wrong\n"
    assert failing(errors.Failure("NaN at step 3")) == 1
    assert failing(errors.Failure("stopped", 143)) == 143
    assert failing(KeyboardInterrupt()) == 130
    with pytest.raises(ZeroDivisionError):
        failing(ZeroDivisionError())


def test_variants_are_the_files_of_their_folder() -> None:
    assert {"scenes", "cifar10", "folder", "parquet"} <= set(variants.names("datasets"))
    assert variants.load("probes", "knn").__name__ == "ijepa.probes.knn"
    with pytest.raises(ValueError, match=r"'magic' is not one of .*multiblock"):
        variants.load("masks", "magic")


def test_a_reader_that_has_enough_is_no_error() -> None:
    """As in `ijepa ablate --dry-run | head`."""
    code = (
        "import sys; from ijepa.runtime import errors;"
        " sys.exit(errors.run(lambda: print(chr(121) * 9**6)))"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == 141


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x\ny.jpg", "x\\ny.jpg"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("a\r\tb\x7f\x85\u2028", "a\\r\\tb\\x7f\\x85\\u2028"),
        ("gpj\u202e.exe", "gpj\\u202e.exe"),  # turns what follows around
        ("caf\udce9", "caf\\udce9"),  # a name that is not UTF-8
        ("日本語 猫\u3000\u00a0é 🙂 C:\\x", "日本語 猫\u3000\u00a0é 🙂 C:\\x"),
    ],
)
def test_names_cannot_break_the_line_of_an_error(
    text: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert errors.plain(text) == shown
    assert failing(ValueError(f"train/{text}: empty")) == 2
    assert failing(errors.Failure(text)) == 1
    assert capsys.readouterr().err == f"error: train/{shown}: empty\nerror: {shown}\n"
