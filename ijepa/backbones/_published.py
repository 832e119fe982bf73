"""Weights as other projects publish them, down to the tensors of the network itself.

MAE writes {"model", "optimizer", "args", ...}; DINO and iBOT {"student", "teacher", ...}, whose
teacher holds a backbone and a head, or the backbone alone; timm {"state_dict", ...} or the
tensors; DistributedDataParallel and torch.compile prefix every name. Tensors that only pretraining
used are left out. All of it is said in one line, and what remains has to match name by name.
"""

import functools
import re
from collections.abc import Mapping
from typing import Any

from ijepa import backbones

WRAPPERS = ("model", "state_dict", "teacher")
_WHOLE = ("module.", "_orig_mod.")  # prefixes of every name
_PART = ("backbone.", "encoder.")  # prefixes of the network, beside a head or a decoder
# of pretraining: what stands for a hidden patch (iBOT: masked_embed), MAE's decoder, DINO's heads
_HARMLESS = re.compile(r"(mask_token|masked_embed)$|decoder[._]|(\w+_)?head\d?\.")


def unwrap(
    where: str, content: Mapping[str, Any], expected: Mapping[str, Any], heads: tuple[str, ...]
) -> dict[str, Any]:
    """The tensors of a network in a file's content; what was taken and left out is printed.

    Args:
        where: the file, for the message.
        content: what the file holds.
        expected: the network's own names.
        heads: beginnings of the names of its classifier, which is not wanted.

    Raises:
        ValueError: it holds several wrappers.
    """
    said: list[str] = []
    state = _unwrapped(where, content, expected, said)
    state = _without_prefixes(state, expected, said)
    left = [
        name
        for name in state
        if name not in expected and (_HARMLESS.match(name) or name.startswith(heads))
    ]
    if left:
        said.append(f"left out {backbones.few(left)}")
    if said:
        _say(f"{where}: {'; '.join(said)}")
    return {name: tensor for name, tensor in state.items() if name not in left}


def _unwrapped(
    where: str, content: Mapping[str, Any], expected: Mapping[str, Any], said: list[str]
) -> dict[str, Any]:
    inside = [name for name in WRAPPERS if isinstance(content.get(name), Mapping)]
    if not inside or any(name in expected for name in content):
        return dict(content)
    if len(inside) > 1:
        names = " and ".join(map(repr, inside))
        raise ValueError(f"{where}: holds {names}; save the one that is meant, alone, to a file")
    said.append(f"took {inside[0]!r}")
    return dict(content[inside[0]])


def _without_prefixes(
    state: dict[str, Any], expected: Mapping[str, Any], said: list[str]
) -> dict[str, Any]:
    """Names without what wrappers of the network put before them, the outermost first."""
    while state and not any(name in expected for name in state):
        whole = [p for p in _WHOLE if all(str(name).startswith(p) for name in state)]
        part = [p for p in _PART if any(str(name).startswith(p) for name in state)]
        if not whole and not part:
            break
        prefix = (whole or part)[0]
        said.append(f"took the prefix {prefix} off")
        state = {str(name).removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


@functools.cache
def _say(line: str) -> None:
    """Print once in a process, which opens its encoder several times."""
    print(line, flush=True)
