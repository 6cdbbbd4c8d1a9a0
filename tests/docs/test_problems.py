"""The catalogue of problems has a heading for each type that the service can send, and no other."""

import re

from service.errors import INTERNAL, KINDS, URN
from tests.docs.pages import anchors, page

PAGE = page("docs/problems.md")
OF_THE_FRAMEWORK = {"not-found": 404, "method-not-allowed": 405}
"""Problems that no exception of ours stands for; tests of the API ask for them."""

STATUSES = {kind.type: kind.status for kind in (*KINDS.values(), INTERNAL)} | OF_THE_FRAMEWORK


def test_every_problem_type_has_its_heading_and_no_other_has() -> None:
    assert sorted(re.findall(r"^### (.*)$", PAGE, re.M)) == sorted(STATUSES)
    assert set(STATUSES) <= anchors(PAGE)
    assert URN in PAGE


def test_every_problem_is_described_with_its_status() -> None:
    for type_, status in STATUSES.items():
        text = PAGE.partition(f"\n### {type_}\n")[2].strip().partition("\n#")[0]
        if type_ != "unreadable-file":  # a row of a file, never an answer
            assert re.match(rf"\*\*{status}[.*]", text), type_


def test_the_catalogue_quotes_titles_and_details_as_the_service_has_them() -> None:
    titles = {kind.type: kind.title for kind in (*KINDS.values(), INTERNAL)}
    for type_, title in re.findall(rf'"type": "{URN}([^"]*)", "title": "([^"]*)"', PAGE):
        assert titles[type_] == title
