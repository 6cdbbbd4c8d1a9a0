"""The JavaScript of docs/clinic-api.md in a page: the same lines as in Node, but for those about files."""

import base64
from pathlib import Path

from tests.browser.visitor import Visitor
from tests.docs.pages import block
from tests.service.process import Process

_BEFORE = """
const [encoded, done] = arguments;
const bytes = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
const process = { env: { URL: "", KEY: "any" } }, readFile = async () => bytes;
const console = { lines: [], log(...values) { this.lines.push(values.join(" ")); } };
(async () => {
"""
_AFTER = "})().then(() => done(console.lines), (error) => done([String(error)]));"


def test_the_example_client_runs_in_a_page(visitor: Visitor, server: Process, lesion: Path) -> None:
    lines = block("docs/clinic-api.md", "Clients", "javascript").splitlines()
    kept = [line for line in lines if "import " not in line and "writeFile" not in line]
    assert len(kept) == len(lines) - 2
    visitor.visit(server.url)
    script = _BEFORE + "\n".join(kept) + _AFTER
    said = visitor.driver.execute_async_script(script, base64.b64encode(lesion.read_bytes()).decode())
    assert len(said) == 3, said
    label, flag = said[0].split()[:2]
    assert flag in ("benign", "malignant")
    assert said[1:] == [label, label]
