"""The page for people: whole, from here alone, and showing what the document says."""

import asyncio
import functools
import json
import re
import shutil
import subprocess
from pathlib import Path

from tests.rest import Rest

_DOM = """
const made = [];
class Node {
  constructor(name) {
    this.name = name; this.dataset = {}; this.children = []; this.textContent = "";
  }
  append(...parts) { for (const p of parts) { this.children.push(p); made.push(p); } }
  replaceChildren() { this.children = []; }
  addEventListener() {}
}
const byId = {};
globalThis.document = {
  createElement: name => new Node(name), querySelectorAll: () => [],
  getElementById: id => (byId[id] ??= new Node(id)),
};
globalThis.location = { hash: "" };
globalThis.addEventListener = () => {};
globalThis.fetch = async path => {
  if (path !== "openapi.json") throw new Error("asked for " + path);
  return { json: async () => API };
};
"""
_SAY = """
;setTimeout(() => {
  const text = part => typeof part === "string" ? part
    : part.textContent + part.children.map(text).join(" ");
  console.log(text(byId.main) + "\\n" + byId.title.textContent);
}, 50);
"""


async def test_page_asks_for_nothing_but_the_document(rest: Rest) -> None:
    page = await rest.ask("GET", "/docs")

    text = page.raw.decode()
    assert (page.status, page.content_type) == (200, "text/html")
    assert not re.findall(r"https?:|//[a-z]|src=|@import|url\(", text)
    assert "innerHTML" not in text
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


async def test_page_shows_every_operation_of_the_document(rest: Rest, tmp_path: Path) -> None:
    """
    Its own script, run against the smallest of documents that it needs.
    """
    page = (await rest.ask("GET", "/docs")).raw.decode()
    api = (await rest.ask("GET", "/openapi.json")).body
    [script] = re.findall("<script>(.*?)</script>", page, re.DOTALL)
    program = tmp_path / "page.js"
    program.write_text(f"const API = {json.dumps(api)};{_DOM}\n(() => {{{script}}})();{_SAY}")
    node = shutil.which("node")
    assert node, "node runs the page's script"

    run = functools.partial(subprocess.run, capture_output=True, text=True, check=True)
    shown = (await asyncio.to_thread(run, [node, str(program)])).stdout

    assert "can't be shown" not in shown
    assert "rtb-segments" in shown
    for path, methods in api["paths"].items():
        for method in methods:
            assert f"{method.upper()} {path}" in shown
    for name in api["components"]["schemas"]:
        assert name in shown
