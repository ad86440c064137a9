"""The forms of an HTML page, with what a browser would send of each."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser

_TEXTS = {"text", "date", "search", "password", "email", "tel", "url", "number"}


@dataclass
class Form:
    """A form of a page."""

    method: str
    path: str
    fixed: dict[str, str] = field(default_factory=dict)  # of a select, the first option
    choices: dict[str, list[str]] = field(default_factory=dict)  # radios, named buttons
    texts: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        """Equal for forms that differ in values alone."""
        return f"{self.method} {self.path} {self.texts} {self.files}"

    def filled(self) -> Iterator[dict[str, str]]:
        """Yield the values of all fields that nobody types, for each choice."""
        for chosen in itertools.product(*self.choices.values()):
            yield {**self.fixed, **dict(zip(self.choices, chosen, strict=True))}


def forms_in(text: str, path: str) -> list[Form]:
    """Return the forms of the page at a path."""
    parser = _Parser(path)
    parser.feed(text)
    return parser.forms


class _Parser(HTMLParser):
    def __init__(self, path: str) -> None:
        super().__init__()
        self._path, self._select = path, ""
        self._is_open = self._is_value = False
        self.forms: list[Form] = []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        if tag == "form":
            path = said.get("action") or self._path
            self.forms.append(Form(said.get("method", "get").upper(), path.partition("?")[0]))
            self._is_open = True
        elif tag == "select":
            self._select = said.get("name", "")
        elif self._is_open:
            self._take(tag, said, self.forms[-1])

    def handle_data(self, data: str) -> None:
        if self._is_value:  # an option's text is its value, unless it has one
            self.forms[-1].fixed.setdefault(self._select, data.strip())
            self._is_value = False

    def handle_endtag(self, tag: str) -> None:
        self._is_open = self._is_open and tag != "form"

    def _take(self, tag: str, said: dict[str, str], form: Form) -> None:
        name, value, kind = said.get("name", ""), said.get("value", ""), said.get("type", "text")
        if tag == "option" and "value" in said:
            form.fixed.setdefault(self._select, value)
        elif tag == "option":
            self._is_value = True
        elif name and (tag == "textarea" or (tag == "input" and kind in _TEXTS)):
            form.texts.append(name)
        elif name and (tag == "button" or kind == "radio"):
            form.choices.setdefault(name, []).append(value)
        elif name and kind == "file":
            form.files.append(name)
        elif name and tag == "input":
            form.fixed[name] = value
