"""What somebody sees of a page of HTML: the words of its parts, and what it would load."""

import html.parser

_VOID = {"meta", "img", "link", "br"}


class Page(html.parser.HTMLParser):
    """Reads a page.

    Attributes:
        verdict: the text of the verdict.
        tables: each a list of rows, each a list of the texts of its cells.
        links: all addresses that a browser would follow or load, but for data in the page.
        images: number of pictures.
        tags: all tags in order.
    """

    def __init__(self, text):
        super().__init__()
        self.verdict, self.tables, self.links, self.images = "", [], [], 0
        self.tags, self._open, self._in_verdict = [], [], False
        self.feed(text)
        assert not self._open, self._open  # every tag is closed

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in _VOID:
            self._open.append(tag)
        attributes = dict(attrs)
        self.links += [v for k, v in attrs if k in ("src", "href") and not v.startswith("data:")]
        self.images += tag == "img"
        self._in_verdict |= tag == "div" and "verdict" in attributes.get("class", "")
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        self._in_verdict &= tag != "div"

    def handle_data(self, data):
        if self._in_verdict:
            self.verdict += data
        if self._open and self._open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data
