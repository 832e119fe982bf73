"""``predictions.npz``: what every candidate said of every image."""

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from ijepa.runtime import files


def write(path: Path, arrays: Mapping[str, NDArray[np.int64]]) -> None:
    """Write int32 arrays, readable by ``numpy.load``, whole or not at all.

    Member by member with a fixed date and mode, so that equal predictions are equal bytes.
    """
    with files.replacing(path) as partial, ZipFile(partial, "w") as archive:
        for key in sorted(arrays):
            with archive.open(ZipInfo(f"{key}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, arrays[key].astype(np.int32), allow_pickle=False)


def read(path: Path) -> dict[str, NDArray[np.int64]]:
    """The arrays that ``write`` wrote.

    Raises:
        ValueError: the file is damaged; one line that names it.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes())) as arrays:
            return dict(arrays)
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, KeyError, EOFError,
            NotImplementedError, RuntimeError) as error:  # fmt: skip  # as the bit would have it
        raise ValueError(f"{path}: damaged: {' '.join(str(error).split())}") from None
