"""Everything an operator can set of the DICOM bridge, from variables named ``DERMASERVE_BRIDGE_...``."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.environment import read_environment
from service.errors import SettingsError
from service.settings import BRIDGE_PREFIX, is_loopback


def _address(value: str) -> str:
    expected = "an address such as http://127.0.0.1:8042, without user, password, query or '/' at the end"
    try:
        url = urlsplit(value)
        sane = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:  # the port is not a number, or is too large
        raise ValueError(expected) from None
    if not sane or "@" in url.netloc or url.query or url.fragment or value.endswith("/"):
        raise ValueError(expected)
    return value


Address = Annotated[str, AfterValidator(_address)]


def _shipped_codes() -> Path:
    return Path(str(files("service.bridge") / "codes.csv"))


class BridgeSettings(BaseSettings):
    """The settings of one bridge; frozen, with a default for everything."""

    model_config = SettingsConfigDict(env_prefix=BRIDGE_PREFIX, frozen=True, extra="ignore")

    service_url: Address = Field(default="http://127.0.0.1:8000", description="address of the service")
    service_key_file: Path | None = Field(
        default=None, description="file with the API key for the service; default: none"
    )
    orthanc_url: Address = Field(
        default="http://127.0.0.1:8042", description="address of Orthanc, whose changes are watched"
    )
    dicomweb_url: Address | None = Field(
        default=None,
        description="address of the archive's DICOMweb services; default: ORTHANC_URL/dicom-web",
    )
    archive_user: str | None = Field(
        default=None, min_length=1, description="user for the archive; default: none"
    )
    archive_password_file: Path | None = Field(
        default=None, description="file with the password of ARCHIVE_USER; default: none"
    )
    allow_plain_http: bool = Field(
        default=False,
        description="true sends images, key and password to other machines without TLS; else their addresses "
        "must be https",
    )
    state_file: Path = Field(
        default=Path("dicom-bridge.json"),
        description="file with the number of the last change that is done",
    )
    start: Literal["first", "now"] = Field(
        default="first",
        description="where to begin without a state: first scores what is in the archive already, now only "
        "what arrives from now on",
    )
    poll_seconds: float = Field(
        default=5.0,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description="seconds between two looks for new changes",
    )
    timeout: float = Field(
        default=60.0,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description="seconds to wait for data from the archive or the service; then the request is repeated",
    )
    max_wait: float = Field(
        default=60.0,
        ge=1,
        le=3600,
        allow_inf_nan=False,
        description="longest pause in seconds before a request is repeated; the first is 1 s, each next one "
        "twice as long",
    )
    send_age_and_sex: bool = Field(
        default=False,
        description="true sends the patient's age and sex with the image, and the model uses them",
    )
    codes_file: Path = Field(
        default_factory=_shipped_codes,
        description="table of the codes in reports; default: the shipped table",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="lowest severity that is logged"
    )
    log_format: Literal["json", "text"] = Field(
        default="json", description="json writes one object a line, for programs; text is for people"
    )

    @field_validator("state_file")
    @classmethod
    def _in_a_folder(cls, value: Path) -> Path:
        if not value.absolute().parent.is_dir():
            raise ValueError("a file in a folder that exists")
        return value

    @field_validator("archive_user")
    @classmethod
    def _no_colon(cls, value: str | None) -> str | None:
        if value is not None and ":" in value:
            raise ValueError("a name without ':'")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.archive_user is None) != (self.archive_password_file is None):
            raise ValueError(
                f"{BRIDGE_PREFIX}ARCHIVE_USER: expected together with {BRIDGE_PREFIX}ARCHIVE_PASSWORD_FILE, "
                f"got only one of them"
            )
        for name in ("service_url", "orthanc_url", "dicomweb_url"):
            address = getattr(self, name)
            url = urlsplit(address or "")
            if url.scheme == "http" and not self.allow_plain_http and not is_loopback(url.hostname or ""):
                raise ValueError(
                    f"{BRIDGE_PREFIX}{name.upper()}: expected https, or a loopback address, got {address!r}; "
                    f"{BRIDGE_PREFIX}ALLOW_PLAIN_HTTP=true sends images and keys without TLS"
                )
        return self

    @property
    def dicomweb(self) -> str:
        """Address of the DICOMweb services."""
        return self.dicomweb_url or f"{self.orthanc_url}/dicom-web"


def load_bridge_settings() -> BridgeSettings:
    """Read the settings from the environment.

    Raises:
        SettingsError: with one line for every wrong or unknown variable.
    """
    return read_environment(BridgeSettings)


def read_secret(variable: str, path: Path | None) -> str | None:
    """Read the file of a key or password: one line of printable ASCII.

    Args:
        variable: name of the setting, without its prefix.
        path: its value.

    Raises:
        SettingsError: the file cannot be read, or holds anything else. The message does not contain it.
    """
    if path is None:
        return None
    try:
        text = path.read_bytes().decode("ascii").strip()
    except OSError as error:
        problem = f"a file that can be read, got {path} ({error.strerror})"
    except UnicodeDecodeError:
        problem = f"a file with one line of printable ASCII, got other bytes in {path}"
    else:
        if text and text.isprintable():
            return text
        problem = f"a file with one line of printable ASCII, got {'several' if text else 'none'} in {path}"
    raise SettingsError([f"{BRIDGE_PREFIX}{variable}: expected {problem}"])
