"""Hostile requests around the upload: what a server's HTTP must bear."""

from random import Random

from tests.long.arsenal import Arsenal, Made
from tests.long.raw_socket import CLOSED, LEFT, Sending


def body_bomb(rng: Random, arsenal: Arsenal) -> Made:
    size = arsenal.max_body_bytes + rng.randint(1, 10 ** rng.randint(1, 15))
    sent = arsenal.head("Content-Type: image/png", f"Content-Length: {size}")
    return Sending([sent, *[bytes(65_536)] * rng.randint(0, 10)]), 413


def chunks(rng: Random, arsenal: Arsenal) -> Made:
    body = rng.choice([
        b"zz\r\nabc\r\n0\r\n\r\n", b"-5\r\nabc\r\n", b"5\r\nab\r\n0\r\n\r\n", b"ffffffffffffffff\r\nabc",
        b"3;" + b"x" * 70_000 + b"\r\nabc\r\n0\r\n\r\n", b"1\r\na\r\n" * 500 + b"q\r\n", b"\r\n\r\n\r\n",
        b"3\r\nabcdef\r\n0\r\n\r\n",
    ])  # fmt: skip
    head = arsenal.head("Content-Type: image/jpeg", "Transfer-Encoding: chunked")
    return Sending([head + body], then="end"), 400, 413, 415, 422, 431, CLOSED


def slow_body(rng: Random, arsenal: Arsenal) -> Made:
    data = rng.choice(arsenal.images)
    framing = rng.choice([f"Content-Length: {len(data) + 10_000}", "Transfer-Encoding: chunked"])
    head = arsenal.head("Content-Type: image/jpeg", framing)
    return Sending([head, *[b"1\r\n\xff\r\n"] * 600], pause=0.1), 400, 408, 504


def slow_head(rng: Random, arsenal: Arsenal) -> Made:
    return Sending([b"POST /predict HTTP/1.1\r\n", *[b"X-A: b\r\n"] * 600], pause=0.1), 400, 408, 431, CLOSED


def vanishing(rng: Random, arsenal: Arsenal) -> Made:
    whole = arsenal.upload(rng, rng.choice(arsenal.images)).pieces[0]
    size = rng.choice([len(whole), len(whole) // 2, rng.randint(1, len(whole))])
    return Sending([whole[:size]], then=rng.choice(["leave", "reset"])), LEFT


def parameters(rng: Random, arsenal: Arsenal) -> Made:
    query = rng.choice([
        "gradcam=banana", "gradcam_class=zzz", "gradcam_class=" + "m" * 3000, "%00=%ff", "=",
        "a[]=1&__proto__=2", "gradcam_class=../../etc/passwd", "gradcam_class='%20OR%201=1--", "&" * 3000,
    ])  # fmt: skip
    body = rng.choice(arsenal.images)
    return (
        Sending([arsenal.request(body, target=f"{rng.choice(['/predict', '/gradcam'])}?{query}")]),
        200,
        400,
        422,
    )


def wrong_key(rng: Random, arsenal: Arsenal) -> Made:
    wrong = rng.choice(
        ["", "x", "dsk_" + "A" * 43, arsenal.key[:-1] + "!", "\xff\xfe", "a" * 5000, arsenal.key + " x"]
    )
    sent = arsenal.request(rng.choice(arsenal.images), f"X-API-Key: {wrong}")
    return Sending([sent]), 401 if arsenal.key else 200


def huge_headers(rng: Random, arsenal: Arsenal) -> Made:
    lines = rng.choice(
        [["X-A: " + "a" * 200_000], [f"X-{i}: b" for i in range(20_000)], ["Cookie: " + "c" * 30_000]]
    )
    target = "/" + "p" * rng.choice([1, 1, 30_000])
    return Sending([arsenal.head(*lines, method="GET", target=target)]), 400, 431, CLOSED


def methods(rng: Random, arsenal: Arsenal) -> Made:
    method = rng.choice(["DELETE", "PUT", "PATCH", "BREW", "TRACE", "CONNECT", "get", "P\x00ST", "X" * 3000])
    head = arsenal.head(
        "Content-Length: 0", method=method, target=rng.choice(["/predict", "/", "/metrics", "*"])
    )
    return Sending([head]), 400, 404, 405, CLOSED


def paths(rng: Random, arsenal: Arsenal) -> Made:
    target = rng.choice([
        "/../../../../etc/passwd", "/static/..%2f..%2f..%2fetc/passwd", "/%00", "//predict", "/predict/", "?",
        "/docs/../admin/reload", "/%2e%2e/%2e%2e/etc/passwd", "/static/%ff", "http://else.where/", "/a b",
    ])  # fmt: skip
    head = arsenal.head(method="GET", target=target)
    return Sending([head]), 200, 307, 400, 401, 403, 404, 405, CLOSED


def random_bytes(rng: Random, arsenal: Arsenal) -> Made:
    return Sending([rng.randbytes(rng.randint(1, 5000))], then="end"), 400, 408, 431, CLOSED


def pipeline(rng: Random, arsenal: Arsenal) -> Made:
    """Not hostile in itself, but rare: three requests before the first answer."""
    live = arsenal.head(method="GET", target="/livez")
    return Sending([live + arsenal.request(arsenal.images[0]) + live], answers=3), 200


def smuggling(rng: Random, arsenal: Arsenal) -> Made:
    lines = rng.choice([
        ["Content-Length: 3", "Transfer-Encoding: chunked"], ["Content-Length: 3", "Content-Length: 4"],
        ["Content-Length: -1"], ["Content-Length: 0x10"], ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"], ["Content-Length : 3"],
        ["Content-Length: " + "9" * 400],
    ])  # fmt: skip
    head = arsenal.head("Content-Type: image/jpeg", *lines)
    return (
        Sending([head + b"0\r\n\r\nGET /admin HTTP/1.1\r\n\r\n"], then="end"),
        400,
        413,
        415,
        422,
        501,
        CLOSED,
    )


def lying_length(rng: Random, arsenal: Arsenal) -> Made:
    data = rng.choice(arsenal.images)
    size = len(data) + rng.choice([-len(data) // 2, 1, 100_000])
    head = arsenal.head("Content-Type: image/jpeg", f"Content-Length: {size}")
    return Sending([head + data], then="end"), 200, 400, 408, 415, 422, CLOSED


def other_protocols(rng: Random, arsenal: Arsenal) -> Made:
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200)
    upgrade = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: eA==",
    ]
    sent = rng.choice([
        hello, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET /\r\n\r\n", b"SSH-2.0-x\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        arsenal.head(*upgrade, method="GET", target="/predict"), b"GET / HTTP/1.0\r\n\r\n",
    ])  # fmt: skip
    return Sending([sent], then="end"), 200, 400, 404, 405, 426, CLOSED
