"""The fixtures of tests/service, for tests of the deployment."""

from tests.service.conftest import _no_settings_from_outside, client, jpeg, lesion, tiny

__all__ = ["_no_settings_from_outside", "client", "jpeg", "lesion", "tiny"]
