"""All kinds of hostile requests, and how often each is tried.

None may ever be a 500, and none may hang; beyond that each kind says what it expects. A 503 is fit
for all: it says that there is too much of them.
"""

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from tests.long import hostile_http, hostile_uploads
from tests.long.arsenal import Arsenal, Made
from tests.long.raw_socket import Outcome, Sending


class Attack(NamedTuple):
    """One hostile request and the outcomes that are fit for it."""

    kind: str
    sending: Sending
    fit: frozenset[Outcome]


def attack(rng: Random, arsenal: Arsenal, kind: str = "") -> Attack:
    """One of ``kind``, or of a drawn one."""
    kind = kind or rng.choices(list(KINDS), [weight for _, weight in KINDS.values()])[0]
    sending, *fit = KINDS[kind][0](rng, arsenal)
    return Attack(kind, sending, frozenset([503, *fit]))


KINDS: dict[str, tuple[Callable[[Random, Arsenal], Made], float]] = {
    "truncated": (hostile_uploads.truncated, 10),
    "corrupt": (hostile_uploads.corrupt, 20),
    "pixel bomb": (hostile_uploads.pixel_bomb, 6),
    "large image": (hostile_uploads.large, 0.5),
    "text bomb": (hostile_uploads.text_bomb, 1),
    "body bomb": (hostile_http.body_bomb, 4),
    "polyglot": (hostile_uploads.polyglot, 6),
    "wrong type": (hostile_uploads.wrong_type, 6),
    "malformed multipart": (hostile_uploads.multipart, 8),
    "deep multipart": (hostile_uploads.deep_multipart, 1),
    "many parts": (hostile_uploads.many_parts, 2),
    "malformed chunks": (hostile_http.chunks, 6),
    "slow body": (hostile_http.slow_body, 0.7),
    "slow head": (hostile_http.slow_head, 0.7),
    "vanishing client": (hostile_http.vanishing, 10),
    "unknown parameters": (hostile_http.parameters, 6),
    "wrong key": (hostile_http.wrong_key, 6),
    "huge headers": (hostile_http.huge_headers, 4),
    "nonsense method": (hostile_http.methods, 4),
    "strange path": (hostile_http.paths, 4),
    "random bytes": (hostile_http.random_bytes, 5),
    "pipeline": (hostile_http.pipeline, 3),
    "smuggling": (hostile_http.smuggling, 4),
    "lying length": (hostile_http.lying_length, 4),
    "other protocol": (hostile_http.other_protocols, 4),
}
"""Each with how often it is drawn, in proportion to the others."""
