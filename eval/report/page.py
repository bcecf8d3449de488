"""A page of text, figures and tables as one self-contained HTML file and as Markdown: no network, no other file."""

import base64
import html
import re
from typing import NamedTuple

from eval.report.tables import Table

READABLE = 1000
"""Pixels below which a figure is scrolled and not shrunk: its text would be too small."""
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1640px; margin: 2em auto; padding: 0 1.2em; }
h1 { font-size: 1.6em; overflow-wrap: anywhere; } h2 { font-size: 1.25em; margin-top: 2em; }
h3 { font-size: 1.05em; margin-bottom: .3em; overflow-wrap: anywhere; }
.figure { overflow-x: auto; } img { max-width: 100%; } p { max-width: 70em; overflow-wrap: anywhere; }
p.note { color: #555; font-size: .87em; }
section.verdict p { font-size: 1.1em; }
table { border-collapse: collapse; font-size: .82em; font-variant-numeric: tabular-nums; width: 100%; }
th { cursor: pointer; text-align: right; vertical-align: bottom; border-bottom: 2px solid #888; }
th, td { padding: .25em .6em; } td { text-align: right; border-bottom: 1px solid #e4e4e4; }
th:first-child, td:first-child { text-align: left; }
td.text { text-align: left; min-width: 9em; overflow-wrap: anywhere; } th.text { text-align: left; }
th[aria-sort=ascending]::after { content: " \\25b4"; } th[aria-sort=descending]::after { content: " \\25be"; }
.failed { border-left: 4px solid #c33; padding-left: 1em; }
pre { background: #f6f6f6; padding: .7em; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .8em; }
@media (max-width: 1250px) {
  thead { display: none; } table, tbody, tr, td { display: block; width: auto; }
  tr { border-bottom: 2px solid #bbb; padding: .3em 0; }
  td, td.text { border: none; text-align: left; min-width: 0; overflow-wrap: anywhere; }
  td:first-child { font-weight: 600; } td:not(:first-child)::before { content: attr(data-label) ": "; color: #666; }
}
"""

# What is not a number sorts after every number, in both directions.
SCRIPT = """
document.querySelectorAll('th').forEach(th => th.addEventListener('click', () => {
  const body = th.closest('table').tBodies[0], column = th.cellIndex;
  const ascending = th.getAttribute('aria-sort') !== 'ascending';
  th.parentNode.querySelectorAll('th').forEach(other => other.removeAttribute('aria-sort'));
  th.setAttribute('aria-sort', ascending ? 'ascending' : 'descending');
  const key = row => row.cells[column].textContent;
  const compare = (a, b) => {
    const x = parseFloat(key(a)), y = parseFloat(key(b));
    if (isNaN(x) && isNaN(y)) return key(a).localeCompare(key(b)) * (ascending ? 1 : -1);
    if (isNaN(x) || isNaN(y)) return isNaN(x) ? 1 : -1;
    return (x - y) * (ascending ? 1 : -1);
  };
  [...body.rows].sort(compare).forEach(row => body.appendChild(row));
}));
"""


class Section(NamedTuple):
    """A part of the page.

    Attributes:
      title: heading.
      paragraphs: text.
      figures: (caption, SVG).
      tables: below the figures.
      code: preformatted lines at the end.
      kind: how it is set off: "failed", "verdict" or not at all.
    """

    title: str
    paragraphs: tuple[str, ...] = ()
    figures: tuple[tuple[str, str], ...] = ()
    tables: tuple[Table, ...] = ()
    code: tuple[str, ...] = ()
    kind: str = ""


def html_page(title: str, sections: list[Section]) -> str:
    """The whole page."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>{html.escape(title)}</title>",
        f"<style>{STYLE}</style></head><body>",
        f"<h1>{html.escape(title)}</h1>",
    ]
    for section in sections:
        kind = f" class={section.kind}" if section.kind else ""
        parts.append(f"<section{kind}><h2>{html.escape(section.title)}</h2>")
        parts += [f"<p>{html.escape(text)}</p>" for text in section.paragraphs]
        for caption, svg in section.figures:
            data = base64.b64encode(svg.encode()).decode()
            source = f"data:image/svg+xml;base64,{data}"
            parts.append(
                f"<h3>{html.escape(caption)}</h3>"
                f'<div class=figure><img alt="{html.escape(caption)}" '
                f'style="width:{_pixels(svg)}px;min-width:{min(_pixels(svg), READABLE)}px" src="{source}"></div>'
            )
        parts += [_html_table(table, table.title != section.title) for table in section.tables]
        parts += [f"<pre>{html.escape(block)}</pre>" for block in section.code]
        parts.append("</section>")
    parts.append(f"<script>{SCRIPT}</script></body></html>")
    return "\n".join(parts) + "\n"


def _pixels(svg: str) -> int:
    """Width of a figure on a wide page: a fifth larger than its own, for lines that are drawn for print."""
    points = re.search(r'<svg[^>]*? width="([0-9.]+)pt"', svg)
    return 1000 if points is None else round(1.2 * 96 / 72 * float(points[1]))


def markdown_page(title: str, sections: list[Section]) -> str:
    """The same without the figures."""
    lines = [f"# {title}", ""]
    for section in sections:
        lines += [f"## {section.title}", ""]
        for text in section.paragraphs:
            lines += [text, ""]
        for table in section.tables:
            heading = [f"### {table.title}", ""] if table.title != section.title else []
            lines += [*heading, *_markdown_rows(table), "", table.note, ""]
        for block in section.code:
            lines += ["```", block, "```", ""]
    return "\n".join(lines)


def _html_table(table: Table, with_title: bool) -> str:
    header, *body = table.rows
    text = [any(len(row[i]) > 30 for row in body) for i in range(len(header))]

    marks = [' class="text"' if is_text else "" for is_text in text]
    # On narrow screens a row becomes a block, and every value says its column.
    labels = [f' data-label="{html.escape(label)}"' for label in header]

    def row(cells):
        parts = zip(marks, labels, cells, strict=True)
        return "".join(f"<td{mark}{label}>{html.escape(cell)}</td>" for mark, label, cell in parts)

    heads = "".join(f"<th{mark}>{html.escape(label)}</th>" for mark, label in zip(marks, header, strict=True))
    rows = "\n".join(f"<tr>{row(cells)}</tr>" for cells in body)
    title = f"<h3>{html.escape(table.title)}</h3>" if with_title else ""
    return (
        f"{title}<table><thead><tr>{heads}</tr></thead><tbody>\n{rows}\n</tbody></table>"
        f'<p class="note">{html.escape(table.note)}</p>'
    )


def _markdown_rows(table: Table) -> list[str]:
    header, *body = [[cell.replace("|", "\\|") for cell in row] for row in table.rows]
    rule = ["---", *["---:"] * (len(header) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in (header, rule, *body)]
