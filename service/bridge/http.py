"""HTTP to the archive and to the service: sessions, and what their failures mean."""

from collections.abc import Iterator
from contextlib import contextmanager

import requests

from service.errors import Away, BridgeStopped, InstanceRefused

_BUSY = (408, 429, 502, 503, 504, 507)
"""Statuses that say nothing against the request: the same one may succeed later."""


class Session(requests.Session):
    """A session in which every request has a time limit, and no redirect leads to another machine."""

    def __init__(self, timeout: float) -> None:
        super().__init__()
        self._seconds = timeout
        self.max_redirects = 0  # a redirect would take key and images to an address that nobody has set

    def request(self, *arguments, **options):  # type: ignore[no-untyped-def]
        """Send a request, see ``requests``."""
        options.setdefault("timeout", self._seconds)
        return super().request(*arguments, **options)


def new_session(timeout: float, *, user: str | None = None, password: str | None = None) -> Session:
    """Open a session.

    Args:
        timeout: seconds to wait for a connection, and for data.
        user, password: for HTTP's basic authentication; None for none.
    """
    session = Session(timeout)
    if user is not None:
        session.auth = (user, password or "")
    else:
        session.auth = _no_auth  # without it, requests takes a password from ~/.netrc
    return session


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


@contextmanager
def failures_of(side: str, *, fault: bool = True) -> Iterator[None]:
    """Turn the failures of requests into exceptions of the bridge.

    The messages of ``requests`` are dropped, because they contain addresses with UIDs of patients' studies.

    Args:
        side: ``the archive`` or ``the service``.
        fault: whether an unexpected 5xx may be due to the instance. If not, it counts as temporary.

    Raises:
        Away: there is no connection, no answer in time, or a status that is temporary.
        BridgeStopped: the key or password is wrong.
        InstanceRefused: any other status of the client's fault.
    """
    try:
        yield
    except requests.HTTPError as error:
        response = error.response
        status, wait = response.status_code, retry_after(response)
    except requests.TooManyRedirects:
        raise BridgeStopped(f"{side} redirects; set its final address") from None
    except requests.RequestException as error:
        raise Away(f"{side} does not answer ({type(error).__name__})") from None
    else:
        return
    raise _exception(side, status, wait, fault=fault)


def _exception(side: str, status: int, wait: float, *, fault: bool) -> Exception:
    if status in (401, 403):
        return BridgeStopped(f"{side} refuses the key or password, or it is missing ({status})")
    if status in _BUSY or status >= 500:
        return Away(f"{side} answered {status}", retry_after=wait, fault=fault and status not in _BUSY)
    return InstanceRefused(f"{side} answered {status}")


def retry_after(response: requests.Response) -> float:
    """Return the seconds of the header ``Retry-After``; 0 without one, or if it is a date."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdecimal() else 0.0
