"""What is known to fail later is said first: before a data set is packed, before training.

Every function refuses with one line or returns what will be left out, and hands nothing to a
stage: a run that goes on has the bytes that it would have without (``variants`` leaves this file
out of what a number depends on). What one probe needs, that probe says (``check`` in its file).
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ijepa import config as configs
from ijepa import variants
from ijepa.config import Config
from ijepa.evaluation import labelling
from ijepa.runtime import environment, errors, files
from ijepa.store.read import Store, open_store

_FLOAT = 4  # bytes; weights and the optimiser's two averages are float32
_READ = 2**30  # bytes of raw data that are read for their hash
_COPIES = 3  # of a run's state on the disk: two checkpoints, and the one being written


def first(config: Config) -> list[str]:
    """By params.yaml alone, and by the data where it is prepared as params.yaml says.

    Returns:
        What will be left out, a line each.

    Raises:
        ValueError: something cannot work.
    """
    memory(config)
    transfer(config)
    inputs = configs.INPUTS / "prepare.json"
    try:
        known = files.read_json(inputs)["parameters"] == configs.parameters(config, "prepare")
        store = open_store() if known else None
    except (ValueError, KeyError, TypeError):  # not prepared yet, or its stage will do it again
        return []
    return [] if store is None else counts(config, store)


def counts(config: Config, store: Store) -> list[str]:
    """By the images and labels of the prepared data.

    Returns:
        What the probes will leave out, a line each.

    Raises:
        ValueError: a batch is larger than the data, or a probe has too few labels; one line.
    """
    batch(config, len(store.splits["train"]))
    try:
        return labelling.check(config, store, config.model.width)
    except ValueError as error:
        raise ValueError(f"{configs.PARAMS}: {error}") from None


def batch(config: Config, images: int) -> None:
    """Refuse a batch that would hold an image twice.

    Args:
        config: data.train_fraction and train.batch_size are used.
        images: of the training split.
    """
    used = max(1, round(config.data.train_fraction * images))  # as batches.training_subset
    if config.train.batch_size > used:
        raise ValueError(
            f"{configs.PARAMS}: train.batch_size: {config.train.batch_size} is more than the"
            f" {used} training images (data.train_fraction {config.data.train_fraction:g} of"
            f" {images})"
        )


def transfer(config: Config) -> None:
    """Open the raw data of every set that evaluation is transferred to.

    Raises:
        ValueError: one of them is missing; one line.
    """
    for number, data in enumerate(config.evaluate.transfer):
        try:
            variants.load("datasets", data.name).load(data.options, environment.data_root())
        except ValueError as error:
            raise ValueError(f"{configs.PARAMS}: evaluate.transfer[{number}]: {error}") from None


def state_bytes(config: Config) -> int:
    """At least so many bytes are the state of a run: the encoder's weights and AdamW's averages.

    The predictor, a teacher and all that is no matrix of a block come on top.
    """
    model = config.model
    block = int((4 + 2 * model.mlp_ratio) * model.width**2)
    return 3 * _FLOAT * model.depth * block


def memory(config: Config) -> None:
    """Refuse a model whose state is larger than the machine's memory, which holds a copy of it."""
    needed = state_bytes(config)
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise ValueError(
            f"{configs.PARAMS}: model.width: {config.model.width} with model.depth"
            f" {config.model.depth}: weights and optimiser take at least {_gib(needed)};"
            f" this machine has {_gib(there)}"
        )


def disk(config: Config, home: Path) -> list[str]:
    """Refuse a disk without room for one checkpoint; say if it has none for all that are kept.

    Raises:
        ValueError: one line that names the folder.
    """
    there = next(folder for folder in (home, *home.parents) if folder.is_dir())
    free, needed = shutil.disk_usage(there).free, state_bytes(config)
    if needed > free:
        raise ValueError(
            f"IJEPA_HOME: {home}: a checkpoint takes at least {_gib(needed)};"
            f" {_gib(free)} are free"
        )
    if _COPIES * needed > free:
        return [
            f"{home}: checkpoints take at least {_gib(_COPIES * needed)} with the ones kept;"
            f" {_gib(free)} are free"
        ]
    return []


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"


def training(config: Config, store: Store) -> list[str]:
    """All that is checked before training.

    Returns:
        What will be left out or may fail, a line each.

    Raises:
        ValueError: something cannot work; one line.
    """
    memory(config)
    notes = counts(config, store)
    transfer(config)
    return [*notes, *disk(config, environment.home())]


def raw_data(config: Config, stage: str, file: Path) -> list[dict[str, Any]]:
    """What the raw data are that a stage reads, and how it stores them (``IJEPA_STORAGE``).

    One entry a data set that is read from files.

    Args:
        config: data is used, and evaluate.transfer.
        stage: of dvc.yaml.
        file: what ``main`` wrote for the stage before. Where raw data are not at hand, as on a
            box that ``dvc pull`` brought the prepared data to, what it says of them stays.
    """
    root = environment.data_root()
    read = {"prepare": [config.data], "evaluate": config.evaluate.transfer}.get(stage, [])
    try:
        sources = [variants.load("datasets", data.name).load(data.options, root) for data in read]
    except ValueError as error:  # where nothing is known of them, the stage itself says so
        before = _written(file, configs.parameters(config, stage))
        if before:
            print(errors.plain(f"note: {error}; taken for those of before"), flush=True)
        return before
    # transfer sets are packed beside the caches, which know the variable
    stored = {"storage": environment.storage()} if stage == "prepare" else {}
    return [stamp(source.raw, root) | stored for source in sources if source.raw]


def _written(file: Path, parameters: Any) -> list[dict[str, Any]]:
    try:
        before = files.read_json(file)
        return before["raw"] if before["parameters"] == parameters else []
    except (ValueError, KeyError, TypeError):
        return []


def stamp(raw: Sequence[Path], root: Path) -> dict[str, Any]:
    """The number, bytes and hash of raw files.

    The hash is of their names below ``root`` and of their content; of more than 1 GiB, of names,
    sizes and times of change: nobody would wait for 150 GB before each run.

    Args:
        raw: files, and folders of them.
        root: of all raw data.
    """
    every = sorted(  # there may be millions
        (os.path.relpath(file, root), (stat := file.stat()).st_size, stat.st_mtime_ns)
        for place in raw
        for file in (place.rglob("*") if place.is_dir() else [place])
        if file.is_file()
    )
    size, whole = sum(size for _, size, _ in every), hashlib.sha256()
    for name, *seen in every:
        content = files.sha256(root / name) if size <= _READ else seen
        whole.update(json.dumps([name, content]).encode())
    return {"files": len(every), "bytes": size, "sha256": whole.hexdigest()}


def main() -> None:
    """The first stage: check params.yaml, and write what each of the others is a function of.

    How params.yaml differs from the commit's is said first, also where it is refused: of ``-S``
    DVC keeps what it wrote, for the next run too. Then what is known to fail later.

    A stage is a function of its parameters, of all the code that ``variants.closure`` finds for it
    and of the raw data that it reads. DVC runs it again when its file here changes, so none of
    these is listed by hand.
    """
    from ijepa import workspace  # it knows the plans of studies; a stage that trains need not

    remark = workspace.remark()
    if remark:
        print(remark, flush=True)
        workspace.age()
    config = configs.load()
    for note in first(config):
        print(errors.plain(f"note: {note}"), flush=True)
    configs.INPUTS.mkdir(parents=True, exist_ok=True)
    for stage in configs.STAGES:
        inputs = {
            "code": variants.files(*variants.entries(config, stage)),
            "parameters": configs.parameters(config, stage),
        }
        file = configs.INPUTS / f"{stage}.json"
        raw = raw_data(config, stage, file)
        files.write_json(file, {**inputs, "raw": raw} if raw else inputs)


if __name__ == "__main__":
    sys.exit(errors.run(main))
