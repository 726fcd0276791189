"""One page of HTML for the result of a command, which needs nothing but itself.

Verdict first, then tables and pictures, then how it was made. Pictures lie in the page, so that it
can be sent as one file; it loads nothing, and whatever names hold is text. Rejected: Markdown with
pictures beside it, half of which gets lost in a mail.
"""

import base64
import html
import io
import string
from collections.abc import Mapping, Sequence

from larq_filter.experiments import tables

_PAGE = string.Template(
    """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
:root { --ink: #1c1e21; --paper: #fff; --line: #d0d7de; --soft: #57606a; --good: #176f2c;
  --bad: #b3261e; --unsure: #8a5300; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --paper: #15181c; --line: #3a424b;
  --soft: #a3adb8; --good: #6fd08c; --bad: #ff8a80; --unsure: #f0b95a; } }
body { margin: 2rem auto; padding: 0 1rem; max-width: 60rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.verdict { border-left: .4rem solid var(--mark); padding: .5rem 1rem; font-size: 1.1rem; }
.verdict p { margin: 0; }
.good { --mark: var(--good); } .bad { --mark: var(--bad); } .unsure { --mark: var(--unsure); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .35rem .7rem;
  border-bottom: 1px solid var(--line); overflow-wrap: break-word; }
th { color: var(--soft); font-weight: 600; }
figure { margin: 1rem 0; } figcaption { color: var(--soft); font-size: .9rem; }
img { display: block; max-width: 100%; background: #fff; border-radius: .4rem; padding: .5rem;
  box-sizing: border-box; }
p.note { color: var(--soft); font-size: .9rem; margin: .4rem 0; }
</style>
</head>
<body>
<h1>$title</h1>
<div class="verdict $mark">$verdict</div>
$body
</body>
</html>
"""
)

GOOD, BAD, UNSURE = "good", "bad", "unsure"


def page(title: str, mark: str, verdict: Sequence[str], parts: Mapping[str, str]) -> str:
    """The whole page.

    Args:
        title: text.
        mark: ``GOOD``, ``BAD`` or ``UNSURE``, the colour of the verdict; words say it too.
        verdict: its sentences, each a paragraph.
        parts: heading to HTML, of the functions below.
    """
    body = "\n".join(f"<h2>{_text(name)}</h2>\n{part}" for name, part in parts.items() if part)
    paragraphs = "".join(f"<p>{_text(sentence)}</p>" for sentence in verdict)
    return _PAGE.substitute(title=_text(title), mark=mark, verdict=paragraphs, body=body)


def table(rows: Sequence[Mapping]) -> str:
    """Rows of the same keys, which are the headings; empty for none."""
    if not rows:
        return ""
    head = "".join(f"<th>{_text(name)}</th>" for name in rows[0])
    lines = ["".join(f"<td>{_text(_cell(cell))}</td>" for cell in row.values()) for row in rows]
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide"><table>\n<tr>{head}</tr>\n{body}\n</table></div>'


def notes(lines: Sequence[str]) -> str:
    """Paragraphs in small print."""
    return "\n".join(f'<p class="note">{_text(line)}</p>' for line in lines)


def pictures(figures: Mapping, why_none: str = "") -> str:
    """Figures of Matplotlib under their captions, the keys; without any, why there are none."""
    if not figures:
        return notes([f"No pictures. {why_none}"])
    return "\n".join(_picture(figure, caption) for caption, figure in figures.items())


def _picture(figure, caption: str) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="svg")
    # In an image of its own: names inside one drawing can't meet those of another.
    source = f"data:image/svg+xml;base64,{base64.b64encode(content.getvalue()).decode()}"
    words = _text(caption)
    return f'<figure><img alt="{words}" src="{source}"><figcaption>{words}</figcaption></figure>'


def _cell(value) -> str:
    return value if isinstance(value, str) and value else tables.text_of(value)


def _text(value) -> str:
    return html.escape(str(value))
