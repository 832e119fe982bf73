"""Every published form of CIFAR-10 is read alike; code in pickles and damage are refused."""

import io
import json
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ijepa.datasets import Item, Source, cifar10
from ijepa.store.read import open_store
from ijepa.store.write import write_store

SHARED = Path(__file__).parents[2] / "shared/data"


def items(source: Source, split: str) -> list[Item]:
    found = list(source.splits[split].items())
    assert len(found) == source.splits[split].count
    return found


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2's ``str``, which is what the published archive holds."""

    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)

    def save_str2(self, data: bytes) -> None:
        self.write(b"T" + len(data).to_bytes(4, "little") + data)  # BINSTRING

    dispatch[bytes] = save_str2


def python2_pickle(value: Any) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(value)
    return file.getvalue().replace(b"numpy._core", b"numpy.core")


def planes(seed: int, count: int = 4) -> tuple[np.ndarray, list[int]]:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, 3072), dtype=np.uint8), list(range(seed, seed + count))


BATCHES = {name: planes(seed) for seed, name in enumerate([*cifar10.TRAIN, *cifar10.TEST])}


def cifar_files(form: str) -> dict[str, bytes]:
    if form == "bin":
        rows = {
            f"{name}.bin": np.concatenate([np.array(values, np.uint8)[:, None], data], axis=1)
            for name, (data, values) in BATCHES.items()
        }
        return {name: row.tobytes() for name, row in rows.items()}
    return {
        name: python2_pickle(
            {b"batch_label": name.encode(), b"labels": values, b"data": data, b"filenames": [b"x"]}
        )
        for name, (data, values) in BATCHES.items()
    }


def write_cifar(root: Path, form: str, files: Mapping[str, bytes], packed: bool) -> None:
    root.mkdir(parents=True, exist_ok=True)
    inside = f"cifar-10-batches-{form}"
    if not packed:
        (root / inside).mkdir()
        for name, data in files.items():
            (root / inside / name).write_bytes(data)
        return
    archive = {"py": "cifar-10-python.tar.gz", "bin": "cifar-10-binary.tar.gz"}[form]
    with tarfile.open(root / archive, "w:gz") as tar:
        for name, data in reversed(files.items()):  # the published archive is not in order either
            entry = tarfile.TarInfo(f"{inside}/{name}")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("form", ["py", "bin"])
@pytest.mark.parametrize("below", [".", "cifar10"])
def test_the_published_cifar10_archives(
    tmp_path: Path, form: str, packed: bool, below: str
) -> None:
    write_cifar(tmp_path / below, form, cifar_files(form), packed)
    source = cifar10.load(cifar10.Options(), tmp_path)
    assert source.tasks["class"][3] == "cat"
    for split, names in (("train", cifar10.TRAIN), ("test", cifar10.TEST)):
        found = items(source, split)
        wanted = [
            (row, label) for name in names for row, label in zip(*BATCHES[name], strict=True)
        ]
        assert [item.labels["class"] for item in found] == [label for _, label in wanted]
        for item, (row, _) in zip(found, wanted, strict=True):
            red, green, blue = row.reshape(3, 32, 32)
            assert np.array_equal(item.image, np.stack([red, green, blue], axis=-1))
    assert items(source, "train")[5].origin.endswith(f"{list(cifar_files(form))[1]}: image 1")


class Malice:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(self.marker),)

    marker = "executed"


@pytest.mark.parametrize("depth", ["alone", "within"])
def test_a_pickle_with_code_is_refused(
    tmp_path: Path, depth: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    evil = Malice() if depth == "alone" else {b"labels": [1], b"data": [Malice()]}
    data = pickle.dumps(evil, protocol=2)
    files = {**cifar_files("py"), "data_batch_3": data}
    write_cifar(tmp_path, "py", files, packed=False)
    with pytest.raises(ValueError, match=r"data_batch_3: .* asks for .*, which is not allowed"):
        cifar10.load(cifar10.Options(), tmp_path)
    assert not Path("executed").exists()
    pickle.loads(data)  # the pickle would have done it
    assert Path("executed").exists()


@pytest.mark.parametrize("form", ["py", "bin"])
def test_damaged_cifar10_batches_are_named(tmp_path: Path, form: str) -> None:
    whole = cifar_files(form)
    name = list(whole)[3]
    for case, files, packed in (
        ("cut", {**whole, name: whole[name][:-9]}, False),
        ("empty", {**whole, name: b""}, False),
        ("other", {**whole, name: b"<html>not found</html>"}, True),
        ("missing", {k: v for k, v in whole.items() if k != name}, False),
        ("missing there", {k: v for k, v in whole.items() if k != name}, True),
    ):
        write_cifar(tmp_path / case, form, files, packed)
        with pytest.raises(ValueError, match=rf"{name}: (damaged|missing)") as error:
            cifar10.load(cifar10.Options(), tmp_path / case)
        assert "\n" not in str(error.value)
    write_cifar(tmp_path / "archive", form, whole, True)
    (archive,) = (tmp_path / "archive").iterdir()
    archive.write_bytes(archive.read_bytes()[:9000])
    with pytest.raises(ValueError, match=archive.name):
        cifar10.load(cifar10.Options(), tmp_path / "archive")


def test_no_cifar10_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"IJEPA_DATA_ROOT.*no CIFAR-10.*cifar-10-batches-py.*parq"
    ):
        cifar10.load(cifar10.Options(), tmp_path / "nowhere")


def test_cifar10_as_parquet(tmp_path: Path) -> None:
    for split, rows in (("train", [1, 0, 9]), ("test", [2])):
        images = []
        for row in rows:
            file = io.BytesIO()
            Image.new("RGB", (32, 32), (20 * row, 0, 0)).save(file, "PNG")
            images.append({"bytes": file.getvalue(), "path": "x.png"})
        table = pa.table({"img": images, "label": rows})
        pq.write_table(table, tmp_path / f"{split}-00000-of-00001.parquet")
    source = cifar10.load(cifar10.Options(), tmp_path)
    assert [item.labels["class"] for item in items(source, "train")] == [1, 0, 9]
    write_store(source, tmp_path / "s")
    store = open_store(tmp_path / "s")
    assert (store.splits["train"][2] == [180, 0, 0]).all()
    assert store.splits["train"][2].shape == (32, 32, 3)
    table = pq.read_table(tmp_path / "train-00000-of-00001.parquet")
    for names, fits in (
        (cifar10.CLASSES, True),
        (cifar10.CLASSES[::-1], False),
        (cifar10.CLASSES[:9], False),
    ):
        feature = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        named = table.replace_schema_metadata({b"huggingface": json.dumps(feature).encode()})
        pq.write_table(named, tmp_path / "train-00000-of-00001.parquet")
        if fits:
            cifar10.load(cifar10.Options(), tmp_path)
        else:
            wrong = "class 0 is 'truck', not" if len(names) == 10 else "class 9 is nothing, not"
            with pytest.raises(ValueError, match=f"train-00000-of-00001.parquet: label: {wrong}"):
                cifar10.load(cifar10.Options(), tmp_path)
    pq.write_table(table, tmp_path / "train-00001-of-00003.parquet")
    with pytest.raises(ValueError, match=r"train-.*-of-.*: one of 3 files, and"):
        cifar10.load(cifar10.Options(), tmp_path)
    (tmp_path / "train-00001-of-00003.parquet").unlink()
    pq.write_table(table, tmp_path / "train-00000-of-00001.parquet")
    (tmp_path / "test-00000-of-00001.parquet").write_bytes(b"PAR1junk")
    with pytest.raises(ValueError, match="test: not parquet"):
        cifar10.load(cifar10.Options(), tmp_path)


@pytest.mark.skipif(not (SHARED / "cifar10").is_dir(), reason="no ../shared/data/cifar10")
def test_the_cifar10_that_is_here() -> None:
    source = cifar10.load(cifar10.Options(), SHARED)
    assert {name: split.count for name, split in source.splits.items()} == {
        "train": 50000,
        "test": 10000,
    }
    assert (SHARED / "cifar10/classes.txt").read_text().split() == list(source.tasks["class"])
    item = next(source.splits["test"].items())
    assert isinstance(item.image, bytes)
    with Image.open(io.BytesIO(item.image)) as image:
        assert image.size == (32, 32)
