"""The visitor counts errors: tests that expect none rely on it."""

from typing import TYPE_CHECKING

import pytest

from tests.browser.visitor import Visitor
from tests.service.process import Process

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver


@pytest.mark.parametrize(
    "script",
    [
        "setTimeout(() => { throw new Error('oops'); })",
        "Promise.reject(new Error('oops'))",
        "document.body.setAttribute('style', 'color: red')",
        "document.body.append(Object.assign(document.createElement('script'), {textContent: '1'}))",
        "document.body.append(Object.assign(new Image(), {src: 'http://elsewhere.example/'}))",
    ],
)
def test_the_visitor_counts_script_errors_and_policy_violations(
    driver: "WebDriver", server: Process, script: str
) -> None:
    visitor = Visitor(driver)
    visitor.visit(server.url)
    assert visitor.complaints() == []
    visitor.js(script)
    visitor.wait_for(visitor.complaints)
    visitor.leave()


def test_the_visitor_counts_requests_to_other_hosts(driver: "WebDriver") -> None:
    visitor = Visitor(driver)
    visitor.visit("data:text/html,<img src=http://elsewhere.example/>")
    visitor.wait_for(lambda: visitor.strange_hosts() == {"elsewhere.example"})
    visitor.leave()
