"""The catalogue of errors for people: Markdown for docs/, and the page that the `type` of a problem leads to."""

from __future__ import annotations

import inspect
import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from hashlib import sha256
from html import escape

from k2k.ops.catalogue import is_write
from k2k.ops.permissions import Permission
from k2k.ops.registry import Operation
from k2k.web.catalogue import Entry, entries

TITLE = "Errors of Key2Key"
INTRODUCTION = (
    "Every refusal is a problem document (RFC 9457). Its `code` is stable and for programs, its `title` and `detail` "
    "are for people. Over the websocket the same document stands in the error's `message`, and the error's `code` "
    "there is the number."
)

# The first that fits exactly is said instead of a list of operations.
_GROUPS: Sequence[tuple[str, Callable[[Operation], bool]]] = (
    ("every operation", lambda operation: True),
    ("every operation that looks at an access token", lambda operation: operation.may is not Permission.sign_in),
    ("every operation that writes", is_write),
    ("every operation that takes a body", lambda operation: "body" in operation.models),
)


def markdown(operations: Sequence[Operation]) -> str:
    """The text of docs/errors.md."""
    found = entries(operations)
    lines = [
        f"# {TITLE}",
        "",
        INTRODUCTION,
        "",
        "| number | code | status | title |",
        "|---|---|---|---|",
        *(
            f"| {entry.error.number} | [`{entry.error.code}`](#{entry.error.code}) | {entry.status} "
            f"| {entry.error.title} |"
            for entry in found
        ),
    ]
    for entry in found:
        lines += [
            "",
            f"## {entry.error.code}",
            "",
            f"**{entry.error.title}** (HTTP {entry.status}, number {entry.error.number})",
            "",
            meaning(entry),
            "",
            f"Answered by {', '.join(answered_by(entry, operations))}.",
        ]
    return "\n".join(lines) + "\n"


def page(operations: Sequence[Operation]) -> str:
    """The HTML page of the same: one anchor a code, no scripts."""
    found = entries(operations)
    contents = "".join(f'<li><a href="#{entry.error.code}">{entry.error.code}</a></li>' for entry in found)
    articles = "".join(_article(entry, operations) for entry in found)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{TITLE}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body><main><h1>{TITLE}</h1><p>{_inline(INTRODUCTION)}</p><nav><ul>{contents}</ul></nav>{articles}</main>"
        "</body></html>\n"
    )


def meaning(entry: Entry) -> str:
    """What the error means and what to do, as its class says it."""
    return inspect.cleandoc(entry.error.__doc__ or "")


def answered_by(entry: Entry, operations: Sequence[Operation]) -> list[str]:
    """Who answers it, in words or as addresses with the rpc's name."""
    if not entry.operations:
        return ["no operation by itself"]
    for words, fits in _GROUPS:
        if entry.operations == tuple(filter(fits, operations)):
            return [words]
    return [_address(operation) for operation in entry.operations]


def _address(operation: Operation) -> str:
    address = f"`{operation.method} {operation.path}`"
    return f"{address} (`{operation.rpc}`)" if operation.rpc else address


def _article(entry: Entry, operations: Sequence[Operation]) -> str:
    error = entry.error
    paragraphs = "".join(f"<p>{_inline(paragraph)}</p>" for paragraph in meaning(entry).split("\n\n"))
    who = ", ".join(map(_inline, answered_by(entry, operations)))
    return (
        f'<article id="{error.code}"><h2><a href="#{error.code}">{error.code}</a></h2>'
        f"<p><strong>{_inline(error.title)}</strong><br><small>HTTP {entry.status} · number {error.number}</small></p>"
        f"{paragraphs}<p><small>Answered by {who}.</small></p></article>"
    )


def _inline(text: str) -> str:
    """One paragraph as HTML: escaped, with `code`."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --faint: #5d6878; --line: #dde2ea; --paper: #fff; --mark: #0b6e4f }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ef; --faint: #9aa5b5; --line: #2c3442; --paper: #12161d; --mark: #5fd0a5 }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.55 system-ui, sans-serif }
main { max-width: 46rem; margin: auto; padding: 1.5rem 1rem 4rem }
h1 { line-height: 1.2 }
h2 { margin: 0; font: 600 1.15rem ui-monospace, monospace; overflow-wrap: anywhere }
a { color: var(--mark); text-decoration: none }
a:hover, a:focus { text-decoration: underline }
nav ul { columns: 10rem; padding: 0; list-style: none; font: .8rem/2.1 ui-monospace, monospace }
article { border-top: 1px solid var(--line); padding: 1.25rem 0 .25rem; scroll-margin-top: .5rem }
article:target { box-shadow: -.75rem 0 0 var(--paper), -1rem 0 0 var(--mark) }
article p { margin: .6rem 0 }
small { color: var(--faint) }
code { font: .9em ui-monospace, monospace; overflow-wrap: anywhere }
"""

CONTENT_SECURITY = f"default-src 'none'; style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'"
"""What the page may load: its own style."""
