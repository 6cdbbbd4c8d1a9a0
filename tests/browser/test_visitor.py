"""The counting itself: a test that counts no errors must be able to see one."""

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
def test_failing_scripts_and_breaches_of_the_policy_are_counted(
    driver: "WebDriver", server: Process, script: str
) -> None:
    visitor = Visitor(driver)
    visitor.visit(server.url)
    assert visitor.complaints() == []
    visitor.js(script)
    visitor.wait_for(visitor.complaints)
    visitor.leave()


def test_other_hosts_are_counted(driver: "WebDriver") -> None:
    visitor = Visitor(driver)
    visitor.visit("data:text/html,<img src=http://elsewhere.example/>")
    visitor.wait_for(lambda: visitor.strange_hosts() == {"elsewhere.example"})
    visitor.leave()
