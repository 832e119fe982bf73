"""Numbered files of one split, ``train-00000-of-00003.parquet``: all of them, once."""

import re
from collections.abc import Sequence
from pathlib import Path

# Hugging Face also writes a hash behind the numbers: train-00000-of-00003-0a1b2c3d4e5f6a7b
_NUMBERED = re.compile(r"(.*)-(\d+)-of-(\d+)(-[0-9a-f]+)?")


def check(paths: Sequence[Path]) -> None:
    """Check that of files whose names say how many there are none is missing.

    Args:
        paths: of one split; files without numbers are nobody's part.

    Raises:
        ValueError: one is missing, is there twice, or says another number of files, or there is a
            file of the same name without a number; names it.
    """
    parts: dict[str, list[tuple[int, int, Path]]] = {}
    for path in paths:
        if numbers := _NUMBERED.fullmatch(path.stem):
            parts.setdefault(numbers[1], []).append((int(numbers[2]), int(numbers[3]), path))
    for path in paths:
        if path.stem in parts:
            raise ValueError(
                f"{path}: stands beside {parts[path.stem][0][2].name}; the split has either the"
                " one or the numbered files"
            )
    for shards in parts.values():
        _check(sorted(shards))


def _check(shards: Sequence[tuple[int, int, Path]]) -> None:
    _, count, path = shards[0]
    first: dict[int, Path] = {}
    for number, of, shard in shards:
        if of != count:
            raise ValueError(f"{shard}: one of {of} files, and {path.name} is one of {count}")
        if number in first:
            raise ValueError(f"{shard}: is file {number} of {count}, as {first[number].name} is")
        first[number] = shard
    start = 1 if count in first and 0 not in first else 0
    missing = sorted(set(range(start, start + count)) - set(first))
    if missing:
        numbers = _NUMBERED.fullmatch(path.stem)
        assert numbers
        digits = len(numbers[2])
        name = f"{numbers[1]}-{missing[0]:0{digits}d}-of-{numbers[3]}{path.suffix}"
        raise ValueError(
            f"{path.with_name(name)}: missing; {len(first)} of {count} files are there"
        )
    if len(first) > count:
        raise ValueError(f"{first[max(first)]}: there are {len(first)} files, not {count}")
