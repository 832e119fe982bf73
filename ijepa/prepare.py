"""Stage 1: check every image of the raw data set and pack it into ``data/prepared``."""

import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path

from ijepa import config as configs
from ijepa import console, environment, variants
from ijepa.config import Config, Data
from ijepa.datasets import Source
from ijepa.store import FORMAT, PREPARED, open_store, write_store
from ijepa.tracking import journal


def main() -> None:
    """Open the raw data, which says what is missing, then pack it."""
    config = configs.load()
    dataset = variants.load("datasets", config.data.name)
    source = dataset.load(config.data.options, environment.data_root())
    journal.record(
        "prepare",
        config,
        lambda run: prepare(source, config, run),
        outs=[PREPARED / "manifest.json"],
    )


def prepare(source: Source, config: Config, run: journal.Run) -> float:
    """Write the store and record its counts; returns the number of images."""
    start = time.monotonic()
    write_store(
        source,
        bad_images=config.data.bad_images,
        max_bad_fraction=config.data.max_bad_fraction,
    )
    store = open_store()
    total = 0
    for name, images in store.splits.items():
        record = store.manifest["splits"][name]
        skipped = record["skipped"]["count"]
        run.log(f"{name}.images", len(images), 0)
        run.log(f"{name}.skipped", skipped, 0)
        print(f"{name}: {len(images)} images, {record['stored']}; {skipped} bad ones left out")
        total += len(images)
    run.log("seconds", time.monotonic() - start, 0)
    run.info(data=store.hash)
    return float(total)


def cached(data: Data) -> Path:
    """Where a data set that only evaluation uses is: prepared once, beside the other caches.

    Raises:
        ValueError: the raw data is missing or bad.
    """
    root = environment.data_root()
    # what changes the files: train_fraction does not, and CLEVR's are 18 GB
    policy = [data.bad_images, data.max_bad_fraction, configs.as_tree(data.options)]
    name = json.dumps([FORMAT, str(root), *policy], sort_keys=True)
    folder = environment.home() / "datasets"
    path = folder / f"{data.name}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    if not path.is_dir():
        source = variants.load("datasets", data.name).load(data.options, root)
        folder.mkdir(parents=True, exist_ok=True)
        own = path.with_name(f"{path.name}.{os.getpid()}")  # another process may do the same
        print(f"preparing {data.name} in {path}", flush=True)
        write_store(
            source, own, bad_images=data.bad_images, max_bad_fraction=data.max_bad_fraction
        )
        try:
            own.rename(path)
        except OSError:  # it was faster
            shutil.rmtree(own)
    return path


if __name__ == "__main__":
    sys.exit(console.run(main))
