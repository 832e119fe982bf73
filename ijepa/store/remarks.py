"""What a user should know of a data set that was packed, in lines."""

from collections.abc import Mapping
from typing import Any

from ijepa.runtime import errors
from ijepa.store import duplicates


def remarks(manifest: Mapping[str, Any]) -> list[str]:
    """Converted modes, what is left out, equal images; names cannot break a line."""
    lines = []
    for name, record in manifest["splits"].items():
        modes = [f"{count} {mode}" for mode, count in record["modes"].items() if mode != "RGB"]
        if modes:
            lines.append(f"{name}: converted to RGB: {', '.join(modes)}")
    for entry in manifest["left_out"]:
        such = f", such as {', '.join(entry['examples'])}" if entry["examples"] else ""
        lines.append(f"left out: {entry['count']} {entry['what']}{such}")
    lines += [f"equal images: {line}" for line in duplicates.said(manifest["duplicates"])]
    return [errors.plain(line) for line in lines]
