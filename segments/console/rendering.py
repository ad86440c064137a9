"""
Templates to pages.

Everything is escaped, and a name that a template does not know is an error, not an empty place.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from segments.console import formats

_VERSION_CHARS = 12


class Templates:
    """
    The templates of all pages.

    Args:
        name_to_asset: Where the sheet and the scripts are.
    """

    def __init__(self, name_to_asset: Mapping[str, str]) -> None:
        self._environment = Environment(
            loader=PackageLoader("segments.console"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.globals["asset"] = name_to_asset
        for write in (
            formats.number,
            formats.moment,
            formats.clock,
            formats.day,
            formats.size,
            formats.duration,
            formats.percent,
            formats.sentence,
            formats.rate,
        ):
            self._environment.filters[write.__name__] = write
        for name in ("parts", "lists"):
            module = self._environment.get_template(f"{name}.html").module
            self._environment.globals["ui" if name == "parts" else name] = module

    def page(self, name: str, values: Mapping[str, Any]) -> str:
        """Return a whole page."""
        return self._environment.get_template(name).render(values)

    def page_around(self, name: str, block: str, part: str, values: Mapping[str, Any]) -> str:
        """Return a whole page, of which one block is rendered already."""
        template = self._environment.get_template(name)
        context = template.new_context(dict(values))
        context.blocks[block] = [lambda _: iter([part])]
        return "".join(template.root_render_func(context))

    def part(self, name: str, block: str, values: Mapping[str, Any]) -> str:
        """Return a block of a page."""
        template = self._environment.get_template(name)
        context = template.new_context(dict(values))
        return "".join(template.blocks[block](context))


def version_of(part: str) -> str:
    """Return a digest of a part's content: the version that a browser has."""
    return hashlib.sha256(part.encode()).hexdigest()[:_VERSION_CHARS]
