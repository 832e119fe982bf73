"""Data sets that only evaluation uses: prepared once, beside the other caches."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from ijepa import config as configs
from ijepa import variants
from ijepa.config import Data
from ijepa.runtime import environment, files
from ijepa.store.read import FORMAT, open_store
from ijepa.store.remarks import remarks
from ijepa.store.write import write_store


def prepared(data: Data) -> Path:
    """Where a data set is that only evaluation uses; it is packed now if it is not there.

    Raises:
        ValueError: the raw data is missing or bad.
    """
    root = environment.data_root()
    source = variants.load("datasets", data.name).load(data.options, root)
    # what changes the files: train_fraction does not, and CLEVR's are 18 GB
    policy = [data.bad_images, data.max_bad_fraction, data.duplicates]
    policy.append(configs.as_tree(data.options))
    entries = "store.write", f"datasets.{data.name}"
    packer = [FORMAT, variants.code(*entries), variants.libraries(*entries)]
    name = json.dumps([_stamps(source.raw), policy, packer], sort_keys=True)
    folder = environment.home() / "datasets"
    path = folder / f"{data.name}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    if not _whole(path):
        folder.mkdir(parents=True, exist_ok=True)
        files.remove_leftovers(folder)
        own = files.temporary(path)  # another process may do the same
        print(f"preparing {data.name} in {path}", flush=True)
        write_store(
            source,
            own,
            bad_images=data.bad_images,
            max_bad_fraction=data.max_bad_fraction,
            equal_images=data.duplicates,
        )
        for line in remarks(open_store(own).manifest):
            print(f"{data.name}: {line}", flush=True)
        try:
            own.rename(path)
        except OSError:  # it was faster
            shutil.rmtree(own)
    return path


def _whole(path: Path) -> bool:
    """Whether a data set is there; one whose manifest, index or labels are damaged is removed.

    Its images are compared with the index where they are read.
    """
    if not path.is_dir():
        return False
    try:
        for images in open_store(path).splits.values():
            assert images.labels is not None
            images.check_index()
    except ValueError as error:
        print(f"{str(error).partition(';')[0]}: prepared again", flush=True)
        shutil.rmtree(path, ignore_errors=True)
        return False
    return True


def _stamps(raw: Sequence[Path]) -> list[tuple[str, int, int]]:
    """Path, size and time of change of every raw file: what a changed file cannot keep."""
    every = [file for place in raw for file in (place.rglob("*") if place.is_dir() else [place])]
    stats = sorted((str(file), file.stat()) for file in every if file.is_file())
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
