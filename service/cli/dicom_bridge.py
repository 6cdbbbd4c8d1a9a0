"""``dicom-bridge``: score the photographs of a DICOM archive, and store the results there."""

import argparse
import logging
import re
import signal
import threading
from importlib.util import find_spec
from types import FrameType
from typing import Any

from service.bridge.codes import load_codes
from service.bridge.settings import BridgeSettings, load_bridge_settings, read_secret
from service.environment import described
from service.errors import BridgeStopped, SettingsError
from service.observability.logs import set_up_logs

logger = logging.getLogger(__name__)

_PACKAGES = ("dicomweb_client", "highdicom", "pydicom", "requests")

_DESCRIPTION = """\
Score the dermoscopic and other photographs of a DICOM archive, and store a structured report and an overlay
of each in its study. Without --study, the command watches the changes of an Orthanc until SIGTERM. It needs
the extra 'dicom-bridge', and a running service with the extra 'dicom'. docs/archive.md describes it.

Exit status: 0 if it watched until SIGTERM or Ctrl+C, or all photographs of the studies have results; 1 if
some have none, or the bridge cannot go on; 2 for wrong options or settings.
"""


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "dicom-bridge",
        help="score the photographs of a DICOM archive",
        description=_DESCRIPTION,
        epilog=f"Settings come from environment variables:\n{described(BridgeSettings)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--study", type=_uid, action="append", metavar="UID", help="score this study and end; may be repeated"
    )
    parser.set_defaults(command=_dicom_bridge)


def _uid(text: str) -> str:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)+", text) or len(text) > 64:
        raise argparse.ArgumentTypeError(f"expected a UID of at most 64 digits and dots, got {text!r}")
    return text


def _dicom_bridge(options: argparse.Namespace) -> int:
    settings = load_bridge_settings()
    codes = load_codes(settings.codes_file)
    key = read_secret("SERVICE_KEY_FILE", settings.service_key_file)
    password = read_secret("ARCHIVE_PASSWORD_FILE", settings.archive_password_file)
    if any(find_spec(package) is None for package in _PACKAGES):
        raise BridgeStopped(
            "the extra 'dicom-bridge' is not installed (make serve EXTRAS='dicom dicom-bridge' installs it)"
        )
    set_up_logs(settings.log_format, settings.log_level)
    for library in ("dicomweb_client", "highdicom", "pydicom", "urllib3"):
        # They log UIDs, addresses with UIDs, and values of patients.
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)

    from service.bridge.archive import Archive
    from service.bridge.bridge import Bridge
    from service.bridge.bridge import described as described_error
    from service.bridge.changes import Orthanc, State
    from service.bridge.http import new_session
    from service.bridge.scoring import Service
    from service.bridge.waits import Stopping, Waits

    stop = _stop_on_signals()
    archive_session = new_session(settings.archive_user, password)
    bridge = Bridge(
        Archive(settings.dicomweb, archive_session, settings.timeout),
        Service(settings.service_url, new_session(), settings.timeout, key),
        codes,
        Waits(settings.max_wait, stop),
        age_and_sex=settings.send_age_and_sex,
    )
    try:
        bridge.check()
        if options.study:
            studies = enumerate(options.study, 1)
            return 1 if sum(bridge.study(study, f"Study {number}") for number, study in studies) else 0
        state = State(settings.state_file)
        with state.locked():
            bridge.watch(
                Orthanc(settings.orthanc_url, archive_session, settings.timeout),
                state,
                start=settings.start,
                pause=settings.poll_seconds,
            )
    except Stopping:
        logger.info("Stopped")
        return 1 if options.study else 0
    except BridgeStopped as error:
        logger.critical("The bridge cannot go on: %s", error)
        return 1
    except SettingsError:
        raise
    except Exception as error:
        # A traceback may quote tags of an instance, so only the type and the place are logged.
        logger.critical("The bridge failed: %s", described_error(error))
        return 1
    return 0


def _stop_on_signals() -> threading.Event:
    """Return an event that is set by SIGTERM or Ctrl+C."""
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)  # a second one ends it at once

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
    return stop
