"""Swagger UI with a service that requires a key: the Authorize button is enough."""

from pathlib import Path

from service.admission.api_keys import line_of, new_token
from tests.browser.visitor import Visitor
from tests.service.process import process

CARD = "#operations-model-model"


def test_a_key_typed_into_authorize_is_sent_and_not_stored(
    visitor: Visitor, tmp_path: Path, tiny: Path
) -> None:
    token = new_token()
    keys = tmp_path / "keys"
    keys.write_text(line_of("north", token))
    with process(tmp_path, tiny, API_KEYS_FILE=keys) as server:
        server.wait_ready()
        visitor.visit(server.url + "/docs")

        def ask() -> str:
            """Return the status of GET /model, requested with the button of the page."""
            if not visitor.sees(f"{CARD} .execute"):
                visitor.wait_for(lambda: visitor.sees(f"{CARD} .opblock-summary-control"))
                visitor.find(f"{CARD} .opblock-summary-control").click()
                visitor.wait_for(lambda: visitor.sees(f"{CARD} .execute"))
            if visitor.sees(f"{CARD} .btn-clear"):
                visitor.find(f"{CARD} .btn-clear").click()
                visitor.wait_for(lambda: not visitor.sees(f"{CARD} .live-responses-table"))
            visitor.find(f"{CARD} .execute").click()
            status = f"{CARD} .live-responses-table .response-col_status"
            visitor.wait_for(lambda: len(visitor.find_all(status)) > 1)
            return visitor.find_all(status)[1].text.split()[0]

        assert ask() == "401"
        visitor.find(".btn.authorize").click()
        visitor.wait_for(lambda: visitor.sees(".auth-container input"))
        visitor.find(".auth-container input").send_keys(token)
        visitor.find(".auth-btn-wrapper .authorize").click()
        visitor.find(".auth-btn-wrapper .btn-done").click()
        assert ask() == "200"
        visitor.visit(server.url + "/docs")  # nothing is stored
        assert ask() == "401"
        assert token not in server.output()
