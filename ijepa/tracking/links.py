"""From a run in Omniboard to its report, commit and data, and back: pages for this machine alone.

Omniboard shows text where a link is wanted. A bar in a run's details (``BAR``) leads to the pages
of this small server, which reads the journal and git and writes nothing; they lead back.
"""

import html
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ijepa.tracking import provenance, runs
from ijepa.tracking.runs import Record

KINDS = ("report", "commit", "data")
_PATH = re.compile(rf"/run/(\d{{1,20}})/({'|'.join(KINDS)})")
_STYLE = (
    "<meta charset=utf-8><meta name=viewport content='width=device-width'>"
    "<style>body{font:15px/1.5 sans-serif;margin:1em;max-width:60em}pre{overflow-x:auto}"
    "code{word-break:break-all}</style>"
)
# Put into Omniboard's page: a link for each kind beside the name of a run whose details are open.
BAR = """new MutationObserver(() => {
  for (const head of document.querySelectorAll(".drilldown-view span.navbar-brand:not([ijepa])")) {
    head.setAttribute("ijepa", "");
    const run = /Id: (\\d+)/.exec(head.innerText)[1];
    for (const kind of KINDS) {
      const link = document.createElement("a");
      Object.assign(link, {href: `${PLACE}/run/${run}/${kind}`, textContent: kind,
                           target: "_blank", className: "navbar-brand"});
      head.after(link);
    }
  }
}).observe(document, {childList: true, subtree: true});"""


@dataclass(frozen=True, slots=True)
class Page:
    """What is answered: status, the HTML."""

    status: int
    text: str


def page(home: Path, board: str, path: str) -> Page:
    """The page of a path: ``/run/ID/report``, ``commit`` or ``data``.

    Args:
        home: of the journal.
        board: the address of Omniboard, where the links back lead.
        path: of the request.
    """
    if not (parts := _PATH.fullmatch(path)):
        return Page(404, _body("No such page", "<p>/run/ID/report, commit or data</p>"))
    number, kind = int(parts[1]), parts[2]
    records = runs.listing(home)
    run = next((record for record in records if record.id == number), None)
    if run is None:
        return Page(404, _body(f"Run {number}", f"<p>It is not in the journal of {home}.</p>"))
    if kind == "report":
        return _report(run, records, board)
    if kind == "commit":
        same = [r for r in records if r.commit == run.commit]
        return Page(200, _body("Commit", _commit(run), _listed(same, board)))
    same = [r for r in records if run.data and r.data == run.data]
    return Page(200, _body("Data", _data(run, records, board), _listed(same, board)))


def _report(run: Record, records: list[Record], board: str) -> Page:
    """The newest report of a run's parameters, with a line of the runs of these above it."""
    same = [r for r in records if r.signature == run.signature]
    for record in same:
        if record.stage == "report" and "index.html" in record.artifacts:
            try:
                runs.check(record.folder, ["index.html"])
                text = (record.folder / "index.html").read_text()
            except (OSError, ValueError) as error:
                return Page(500, _body("Report", f"<p>{html.escape(str(error))}</p>"))
            back = f'<p style="padding:.5em">In Omniboard: {_chain(same, board)}</p>'
            start = re.search(r"<body[^>]*>|\Z", text)
            at = start.end() if start else 0
            return Page(200, text[:at] + back + text[at:])
    none = "<p>No report of these parameters is recorded here: <code>dvc repro report</code></p>"
    return Page(404, _body("Report", none, _listed(same, board)))


def _commit(run: Record) -> str:
    if not re.fullmatch(r"[0-9a-f]{40}", run.commit):
        return f"<p>The commit is unknown: {html.escape(run.git)}</p>"
    try:
        shown = provenance.show(run.commit)
    except ValueError as error:
        shown = f"{run.commit}: not in this checkout ({error})"
    dirty = "<p>The code had changes that are not in it.</p>" if run.dirty else ""
    return f"{dirty}<pre>{html.escape(shown)}</pre>"


def _data(run: Record, records: list[Record], board: str) -> str:
    if not run.data:
        return f"<p>Run {run.id} read no data.</p>"
    wrote = [r for r in records if r.stage == "prepare" and r.data == run.data]
    by = _chain(wrote, board) or "no run of this journal"
    return f"<p>SHA-256 <code>{html.escape(run.data)}</code>, prepared by {by}.</p>"


def _link(run: Record, board: str) -> str:
    at = f"{board}sacred?showDrillDownRunModal=true&runIdToExpand={run.id}"
    at += f"&runIdStatus={run.status}"
    return f'<a href="{html.escape(at)}">{html.escape(run.stage)} {run.id}</a>'


def _chain(records: list[Record], board: str) -> str:
    return ", ".join(_link(record, board) for record in reversed(records))


def _listed(records: list[Record], board: str) -> str:
    if not records:
        return ""
    lines = "".join(f"<li>{_link(r, board)} {r.status} {html.escape(r.experiment)}</li>"
                    for r in records)  # fmt: skip
    return f"<h2>Runs with the same, newest first</h2><ul>{lines}</ul>"


def _body(title: str, *parts: str) -> str:
    return f"<!doctype html><title>{title}</title>{_STYLE}<h1>{title}</h1>{''.join(parts)}"


class Server(ThreadingHTTPServer):
    """Answers on a port of this machine's own address; ``board`` is the address of Omniboard."""

    def __init__(self, home: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.home, self.board = home, ""


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        # another site that has its name resolved to this machine may not read a journal
        host = (self.headers.get("Host") or "").rpartition(":")[0]
        if host in ("127.0.0.1", "localhost"):
            answer = page(self.server.home, self.server.board, self.path)
        else:
            answer = Page(403, _body("Not for this name", ""))
        data = answer.text.encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the terminal is the page's server's."""


@contextmanager
def served(home: Path) -> Iterator[Server]:
    """Answer while the block runs."""
    with Server(home) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
