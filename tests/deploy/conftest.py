"""The fixtures of tests/service, for the tests of what runs around it."""

from tests.service.conftest import _no_settings_from_outside, client, jpeg, lesion, tiny

__all__ = ["_no_settings_from_outside", "client", "jpeg", "lesion", "tiny"]
