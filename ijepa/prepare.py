"""Stage 1: check every image of the raw data set and pack it into ``data/prepared``."""

import sys
import time

from ijepa import config as configs
from ijepa import variants
from ijepa.config import Config
from ijepa.datasets import Source
from ijepa.runtime import environment, errors
from ijepa.store.read import PREPARED, open_store
from ijepa.store.remarks import remarks
from ijepa.store.write import write_store
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
        equal_images=config.data.duplicates,
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
    for line in remarks(store.manifest):
        print(line)
    run.log("seconds", time.monotonic() - start, 0)
    run.info(data=store.hash)
    return float(total)


if __name__ == "__main__":
    sys.exit(errors.run(main))
