"""A page as a browser takes it apart, for the tests of what is written as HTML."""

import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """``tags``: name and attributes; ``text``: what is read, by the heading above it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.sections: dict[str, str] = {"": ""}
        self._heading, self._silent, self._open, self._joined = "", 0, False, False
        self.feed(page)
        self.close()
        self.sections = {name: " ".join(said.split()) for name, said in self.sections.items()}

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._silent += tag in ("style", "svg", "title")
        self._joined = tag == "wbr"  # a place where a word may break: the word goes on
        if tag == "h2":
            self._heading, self._open = "", True

    def handle_endtag(self, tag):
        self._silent -= tag in ("style", "svg", "title")
        if tag == "h2":
            self._open = False
            self.sections[self._heading] = ""

    def handle_data(self, data):
        if self._open:
            self._heading += data
        elif not self._silent:
            # Cells of a table are words apart.
            self.sections[self._heading] += data if self._joined else f" {data}"

    def having(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.tags if name in attrs]


def stands_alone(text: str) -> Page:
    """Take a page apart; assert that it fetches nothing, runs nothing, and can be heard."""
    page = Page(text)
    names = [tag for tag, _ in page.tags]
    assert not {"script", "link", "img", "iframe", "object", "embed", "base"} & set(names)
    assert not page.having("src")
    assert "@import" not in text
    for name in ("href", "xlink:href"):
        assert all(address.startswith("#") for address in page.having(name))
    assert all(a.startswith("#") for a in re.findall(r"url\(\s*[\"']?([^\"')]*)", text))
    assert not [a for _, attrs in page.tags for a in attrs if a.startswith("on")]
    ids = page.having("id")
    assert len(ids) == len(set(ids)), "what a name refers to is one thing"
    assert all(name[1:] in ids for name in page.having("href"))
    assert names.count("h1") == names.count("main") == 1
    drawn = [attrs for tag, attrs in page.tags if attrs.get("role") == "img"]
    assert all(attrs["aria-label"] for attrs in drawn)
    pictures = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert len(drawn) == len(pictures), "each picture says what it shows"
    return page
