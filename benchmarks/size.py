"""What a large data set costs: preparing many small files, and reading a set of 14 million.

    python benchmarks/size.py FOLDER [--files 200000] [--images 14000000]

Each measurement is a process of its own; a line of JSON for each. The files are 100 x 100 JPEGs;
the set of 14 million has 2 x 2 pixels an image, all black, in a file with a hole. It also runs at
a commit of format 1 (c491ec3), for the comparison in results/size.md.
"""

import argparse
import hashlib
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ijepa import config as configs
from ijepa import presets
from ijepa.datasets import folder
from ijepa.runtime import files
from ijepa.store import read
from ijepa.store.read import Images, open_store
from ijepa.store.write import write_store
from ijepa.training import batches

CLASSES = 21_841  # ImageNet-22k's
LATENCY = 0.005  # seconds: a file over a busy network
SLOW = 2000  # files that are read with it
SIDE = 2  # pixels


def plant(root: Path, count: int) -> None:
    """``count`` JPEGs in 100 classes, and one test image in each."""
    rng, kinds = np.random.default_rng(0), []
    for _ in range(100):
        file = io.BytesIO()
        pixels = np.kron(rng.integers(0, 256, (25, 25, 3)), np.ones((4, 4, 1)))
        Image.fromarray(pixels.astype(np.uint8)).save(file, "JPEG")
        kinds.append(file.getvalue())
    for split, each in (("train", count // 100), ("test", 1)):
        for label in range(100):
            place = root / "many" / split / f"c{label:02d}"
            place.mkdir(parents=True, exist_ok=True)
            for number in range(each):
                (place / f"{number}.jpg").write_bytes(kinds[(label + number) % 100])


def prepare(root: Path, slow: bool) -> dict[str, Any]:
    """Time, memory and disk of packing a folder."""
    if slow:
        real = Path.read_bytes

        def read_bytes(path: Path) -> bytes:
            time.sleep(LATENCY)
            return real(path)

        Path.read_bytes = read_bytes  # type: ignore[method-assign]
    begun = time.perf_counter()
    write_store(folder.load(folder.Options(path="many"), root), root / "packed")
    seconds = time.perf_counter() - begun
    size = sum(f.stat().st_size for f in (root / "packed").rglob("*") if f.is_file())
    raw = sum(f.stat().st_size for f in (root / "many").rglob("*") if f.is_file())
    images = open_store(root / "packed").splits["train"]
    digest = hashlib.sha256()
    for index in range(0, len(images), 101):
        digest.update(images[index].tobytes())
    return {
        "seconds": round(seconds, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "disk_mb": round(size / 1e6),
        "of_raw": round(size / raw, 2),
        "pixels": digest.hexdigest()[:12],
    }


def synthetic(place: Path, count: int) -> Images:
    """The training images of a set that nobody could download: an index, and a file of holes."""
    place.mkdir(parents=True)
    size = SIDE * SIDE * 3
    with (place / "images-00000.bin").open("wb") as file:
        file.truncate(size * count)
    labels = (np.arange(count) % CLASSES)[None]
    if read.FORMAT == 1:
        np.save(place / "labels.npy", labels)
    else:
        np.save(place / "labels.npy", labels.astype(np.uint16))
        rows = np.zeros(count, [("start", "<i8"), ("bytes", "<u4"), ("crc", "<u4")])
        rows["start"], rows["bytes"] = np.arange(count) * size, size
        rows["crc"] = zlib.crc32(bytes(size))
        rows.tofile(place / "index.bin")

    def entry(name: str) -> dict[str, Any]:
        path = place / name
        return {"file": name, "bytes": path.stat().st_size, "sha256": files.sha256(path)}

    record: dict[str, Any] = {
        "count": count, "stored": "decoded", "shape": [SIDE, SIDE, 3],
        "labels": entry("labels.npy"),
        "shards": [{"file": "images-00000.bin", "count": count, "bytes": size * count}],
    }  # fmt: skip
    if read.FORMAT == 1:
        return Images(place, record, ("class",))
    record |= {"index": entry("index.bin"), "paths": None}
    return Images(place, record, ("class",), place)


def memory(process: str) -> float:
    """MB that a process alone has: its unique set size."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def workers(root: Path, count: int) -> dict[str, Any]:
    """Memory of two workers and of their parent over 30 batches that cross an epoch's end."""
    os.environ |= {"IJEPA_WORKERS": "2", "IJEPA_DEVICE": "cpu"}
    begun = time.perf_counter()
    images = synthetic(root / "synthetic", count)
    tree = files.read_yaml(configs.PARAMS)
    sizes = {"data.image_size": 16, "model.patch_size": 4, "mask.min_context": 2}
    presets.apply(tree, {**sizes, "train.batch_size": 256, "train.flip": False}, "size")
    built = time.perf_counter()
    data = batches.Batches(images, configs.parse(tree, "size"))
    first = max(0, count - 15 * 256) // 256 * 256
    loader = iter(batches.loader(data, first))
    digest = hashlib.sha256()
    for _ in range(30):
        digest.update(np.asarray(next(loader).samples).tobytes())
    children = [str(worker.pid) for worker in loader._workers]  # type: ignore[attr-defined]
    return {
        "images": count,
        "index_seconds": round(built - begun, 1),
        "first_30_batches_seconds": round(time.perf_counter() - built, 1),
        "worker_mb": round(max(map(memory, children)), 1),
        "parent_mb": round(memory("self"), 1),
        "order": digest.hexdigest()[:12],
    }


def reading(root: Path) -> dict[str, Any]:
    """Microseconds to read an image: stored decoded at 48 x 48, and a 100 x 100 JPEG."""
    from ijepa.datasets import Item, Source, Split

    rng = np.random.default_rng(0)
    decoded = [rng.integers(0, 256, (48, 48, 3), dtype=np.uint8) for _ in range(500)]
    split = Split(500, lambda: iter([Item(image, {"class": 0}, "") for image in decoded]))
    write_store(Source({"train": split, "test": split}, {"class": ("a",)}, {}), root / "small")
    micros = {}
    for name, place in (("decoded", root / "small"), ("encoded", root / "packed")):
        images = open_store(place).splits["train"]
        best = 1e9
        for _ in range(20):
            begun = time.perf_counter()
            for index in range(500):
                images[index]
            best = min(best, (time.perf_counter() - begun) / 500)
        micros[name] = round(best * 1e6, 1)
    return micros


def main() -> None:
    """Run every measurement in a process of its own, or the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--images", type=int, default=14_000_000)
    parser.add_argument("--only", help="one measurement, in this process")
    options = parser.parse_args()
    root = options.folder.resolve()
    single = {
        "slow": lambda: prepare(root / "few", slow=True),
        "prepare": lambda: prepare(root, slow=False),
        "reading": lambda: reading(root),
        "in_place": lambda: prepare(root, slow=False),
        "base": lambda: workers(root, 10_000),
        "workers": lambda: workers(root, options.images),
    }
    if options.only:
        print(json.dumps({options.only: single[options.only]()}), flush=True)
        return
    for place, count in ((root, options.files), (root / "few", SLOW)):
        if not (place / "many").is_dir():
            plant(place, count)
    for name in single:
        if name == "in_place" and read.FORMAT == 1:
            continue
        shutil.rmtree(root / "synthetic", ignore_errors=True)
        storage = {"IJEPA_STORAGE": "in_place"} if name == "in_place" else {}
        command = [sys.executable, __file__, str(root), "--images", str(options.images)]
        environment = {**os.environ, "IJEPA_DATA_ROOT": str(root), **storage}
        subprocess.run([*command, "--only", name], check=True, env=environment)
    shutil.rmtree(root / "synthetic", ignore_errors=True)


if __name__ == "__main__":
    main()
