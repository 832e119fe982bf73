"""What of the surroundings may be written down; all else never leaves this process.

Of ``IJEPA_MONGO_URL`` that is scheme, host and port, and where its text is not plainly those,
nothing. Places and hardware are no secrets: they are recorded as they are.
"""

import functools
import re
from urllib.parse import unquote_plus

from ijepa.runtime import environment

HIDDEN = "***"
# free text that goes to other programs, which take tokens and accounts in it
_FREE = ("IJEPA_TORCHRUN", "IJEPA_SBATCH")
_HOST = r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?"
_ADDRESS = re.compile(
    rf"(?P<scheme>mongodb(?:\+srv)?)://(?:(?P<login>[^@/?#\s]*)@)?(?P<hosts>{_HOST}(?:,{_HOST})*)"
    r"(?:[/?](?P<rest>[^@#\s]*))?"
)
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]*:[^/\s]*@")
_DELIMITERS = re.compile(r"[\s:/?#@&=,;]+")
# options of a MongoDB URL whose values are words of the log as well, and no secrets
_PLAIN = {"authsource", "authmechanism", "journal", "tls", "ssl", "w", "replicaset", "retrywrites",
          "retryreads", "directconnection", "readpreference"}  # fmt: skip
_SHORT = 4  # characters: shorter pieces of a text that is no URL are in every other word


def settings() -> dict[str, str]:
    """The ``IJEPA_*`` variables in force, as they may be recorded."""
    values = {name: environment.text(name) for name in environment.VARIABLES}
    hidden = {name: HIDDEN for name in _FREE if values[name]}
    place = address(values["IJEPA_MONGO_URL"])
    return {**{n: redact(v) for n, v in values.items()}, **hidden, "IJEPA_MONGO_URL": place}


def address(url: str) -> str:
    """Scheme, host and port of a MongoDB URL, and no more; empty and ``off`` are what they are."""
    if url in ("", "off"):
        return url
    parts = _ADDRESS.fullmatch(url)
    if parts is None:
        return HIDDEN
    login = f"{HIDDEN}@" if parts["login"] is not None else ""
    return f"{parts['scheme']}://{login}{parts['hosts']}"


def redact(text: str) -> str:
    """``text`` without the user and password of any URL, and without what ours may not tell."""
    url = environment.text("IJEPA_MONGO_URL")
    text = text.replace(url, address(url)) if url not in ("", "off") else text
    text = _CREDENTIALS.sub(f"{HIDDEN}@", text)
    for secret in (*_secrets(url), *_free()):
        text = text.replace(secret, HIDDEN)
    return text


def _free() -> list[str]:
    """The values of free text, the longest first: one may be within another."""
    return sorted(filter(None, map(environment.text, _FREE)), key=len, reverse=True)


@functools.cache
def _secrets(url: str) -> tuple[str, ...]:
    """What must not be written of a URL, encoded and decoded, the longest first."""
    if url in ("", "off"):
        return ()
    parts = _ADDRESS.fullmatch(url)
    if parts is None:  # what is secret in it cannot be told, so every piece is
        rest = re.sub(r"^mongodb(\+srv)?://", "", url)
        pieces = {rest, *rest.split("@"), *_DELIMITERS.split(rest)}
        secrets = {piece for piece in pieces if len(piece) >= _SHORT}
    else:
        secrets = {(parts["login"] or "").partition(":")[2]}
        for option in (parts["rest"] or "").rpartition("?")[2].split("&"):
            name, _, value = option.partition("=")
            secrets |= {value} if name.lower() not in _PLAIN else set()
    every = {*secrets, *map(unquote_plus, secrets)} - {"", "true", "false"}
    plain = {word for word in every if word.isdecimal() and len(word) < _SHORT}
    return tuple(sorted(every - plain, key=len, reverse=True))
