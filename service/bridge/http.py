"""HTTP to the archive and to the service: sessions, and what failures mean."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import requests
from urllib3.exceptions import ReadTimeoutError

from service.errors import Away, BridgeStopped, InstanceRefused

_BUSY = (408, 429, 502, 503, 507)
"""Statuses that say nothing against the request: the same one may succeed later."""

_CONFLICT = 409  # of STOW-RS: nothing was stored, for whatever reason


def new_session(user: str | None = None, password: str | None = None) -> requests.Session:
    """Open a session that follows no redirects, uses no proxy and knows no password but this.

    Args:
        user, password: for HTTP's basic authentication; None for none.
    """
    session = requests.Session()
    session.max_redirects = 0  # a redirect would take key and images to an address that nobody has set
    session.trust_env = False  # else requests uses proxies of the environment and passwords of ~/.netrc
    session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
    if user is not None:
        session.auth = (user, password or "")
    return session


@contextmanager
def failures_of(side: str, *, of_instance: bool = False) -> Iterator[None]:
    """Turn the failures of requests into exceptions of the bridge.

    The messages of ``requests`` are dropped, because they contain addresses with UIDs of patients' studies.

    Args:
        side: ``the archive`` or ``the service``.
        of_instance: whether the request is about one instance, so that an unexpected 5xx, or an answer that
            is late or incomplete, may be due to it. If not, they count as temporary.

    Raises:
        Away: there is no connection, no answer in time, or a status that is temporary.
        BridgeStopped: the key or password is wrong, or the answer is not JSON where it should be.
        InstanceRefused: any other status of the client's fault.
    """
    try:
        yield
    except requests.HTTPError as error:
        response = error.response
        assert response is not None  # noqa: S101 - raise_for_status() sets it
        status, wait = response.status_code, _retry_after(response)
    except requests.TooManyRedirects:
        raise BridgeStopped(f"{side} redirects; set its final address") from None
    except requests.JSONDecodeError:
        raise BridgeStopped(f"{side} answers something else than JSON; its address may be wrong") from None
    except requests.RequestException as error:
        # An answer that is late or incomplete may be due to the instance; a missing connection is not.
        # Late in the middle of an answer is a ConnectionError, too.
        late = bool(error.args) and isinstance(error.args[0], ReadTimeoutError)
        fault = of_instance and (late or not isinstance(error, requests.ConnectionError))
        raise Away(f"{side} does not answer ({type(error).__name__})", fault=fault) from None
    else:
        return
    raise _exception(side, status, wait, of_instance=of_instance)


def _exception(side: str, status: int, wait: float, *, of_instance: bool) -> Exception:
    if status in (401, 403):
        return BridgeStopped(f"{side} refuses the key or password, or it is missing ({status})")
    if status in _BUSY or status >= 500 or status == _CONFLICT:
        fault = status == _CONFLICT or (of_instance and status not in _BUSY)
        return Away(f"{side} answered {status}", retry_after=wait, fault=fault)
    return InstanceRefused(f"{side} answered {status}")


def _retry_after(response: requests.Response) -> float:
    """Return the seconds of the header ``Retry-After``; 0 without one, or if it is a date."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdecimal() else 0.0
