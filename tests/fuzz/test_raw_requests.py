"""Hypothesis on raw sockets: request lines, headers, bodies and signatures nobody would send."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from prey import KEPT, REQUESTS, SPOILT

from wharfinger.http.hss.operations import OPERATIONS
from wharfinger.testing.faults import Asked
from wharfinger.testing.signing import expected_signature

pytestmark = [pytest.mark.timeout(3600), pytest.mark.slow]

# What is left of all requests when schemathesis has sent its own: it finds no wrong way to call
# what has no parameters.
SHARE = 0.55
ENOUGH_S = 1.0

# --- pieces --------------------------------------------------------------------------------------

odd_text = st.sampled_from(
    [
        "",
        "\x00",
        "a\x00b",
        "�",
        "😀",
        "%00",
        "%",
        "%zz",
        "%25",
        "..",
        "../..",
        "'",
        '"',
        "\\",
        "{}",
        "null",
        "NaN",
        "-1",
        "0",
        "1e309",
        "9" * 30,
        "true",
        "x" * 300,
        "١٢",
        "\u202e",
        "*",
        "%2F",
    ]
) | st.text(max_size=12)
odd_numbers = st.sampled_from([-1, 0, 1, 2**31, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30, 0.5])
odd_json = st.recursive(
    st.none() | st.booleans() | odd_numbers | odd_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd_text, inner, max_size=3),
    max_leaves=6,
)


def dumped(value) -> bytes:
    return json.dumps(value).encode()


# Positions of lists, as somebody would make them up who has looked into one.
times = st.sampled_from(
    ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00", "2026-11-01T00:00:00Z", "x"]
)
positions = (
    odd_json
    | st.tuples(odd_numbers, times, odd_numbers)
    | st.tuples(times, odd_text)
    | st.fixed_dictionaries({"seq": odd_numbers, "at": times, "id": odd_numbers})
)
cursors = positions.map(lambda one: base64.urlsafe_b64encode(dumped(one)).decode().rstrip("="))
likely = st.sampled_from(["1", "10", "200", "true", "image_sync", "private_image", "x", "finished"])
values = likely | odd_text | cursors | odd_numbers.map(str) | times


def encoded(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


@st.composite
def targets(draw, paths, ids, names):
    """A path of the document, filled in with what is there or with anything, and a query."""
    path = draw(st.sampled_from(paths))
    for name in ids:
        # Most of the time the right one, or nothing would get beyond it.
        is_right = draw(st.integers(0, 9)) > 0
        path = path.replace(f"{{{name}}}", encoded(ids[name] if is_right else draw(odd_text)))
    path = path.replace("{", "%7B").replace("}", "%7D")
    some = draw(st.lists(st.tuples(st.sampled_from(names) | odd_text, values), max_size=3))
    query = "&".join(f"{encoded(name)}={encoded(value)}" for name, value in some)
    spoilt = draw(st.sampled_from(["", "", "", "", "/", "//", "%2e%2e/", "?", "#x", ";x", "%"]))
    return f"{path}{spoilt}?{query}" if query else path + spoilt


field_names = st.sampled_from(
    [
        b"X-Project-Id",
        b"X-Domain-Id",
        b"Authorization",
        b"X-Sdk-Date",
        b"X-Security-Token",
        b"X-Subject-Token",
        b"X-Auth-Token",
        b"region",
        b"Content-Type",
        b"Accept",
        b"Host",
        b"X-Forwarded-For",
        b"X-Forwarded-Proto",
        b"Connection",
        b"Expect",
        b"Upgrade",
        b"Range",
        b"Content-Encoding",
        b"If-None-Match",
        b"Accept-Encoding",
        b"Cookie",
        b"TE",
        b"Trailer",
    ]
)
field_values = st.sampled_from(
    [
        b"",
        b"x",
        b"close",
        b"100-continue",
        b"websocket",
        b"gzip",
        b"application/json",
        b"SDK-HMAC-SHA256 Access=x, SignedHeaders=host;x-sdk-date, Signature=" + b"0" * 64,
        b"V11-HMAC-SHA256 Credential=x/20261124/a/b, SignedHeaders=host, Signature=00",
        b"SDK-HMAC-SHA256",
        b"Bearer x",
        b"\xff\xfe",
        b"\xc3(",
        b"::1, x",
        b"20261124T000000Z",
        b"9" * 40,
        b"a" * 9000,
    ]
) | st.binary(max_size=20)
fields = st.lists(st.tuples(field_names, field_values), max_size=4)

bodies = (
    st.just(b"")
    | odd_json.map(dumped)
    | st.binary(max_size=60)
    | st.sampled_from(
        [
            b"[" * 5000,
            b'{"auth":' * 3000,
            b'{"a":1,"a":2}',
            b"\xef\xbb\xbf{}",
            b'"\\ud800"',
            b"nul",
            b'{"auth":{"identity":{"methods":["token"],"policy":' + b"[" * 5000 + b"]" * 5000,
        ]
    )
    | st.fixed_dictionaries({"image_type": odd_json}).map(dumped)
    | st.fixed_dictionaries(
        {"registry_info": st.lists(st.fixed_dictionaries({"registry_id": odd_text}), max_size=2)}
    ).map(dumped)
    | st.fixed_dictionaries({"images": st.lists(odd_numbers, max_size=3)}).map(dumped)
    | st.builds(
        lambda user, scope: dumped(
            {
                "auth": {
                    "identity": {
                        "methods": ["password"],
                        "password": {"user": {"password": "x"} | user},
                    },
                    "scope": scope,
                }
            }
        ),
        st.fixed_dictionaries(
            {}, optional={"id": odd_text, "name": odd_text, "domain": st.just({"id": KEPT})}
        ),
        odd_json,
    )
    | st.builds(
        lambda token, seconds: dumped(
            {
                "auth": {
                    "identity": {
                        "methods": ["token"],
                        "token": {"id": token, "duration_seconds": seconds},
                    }
                }
            }
        ),
        odd_text,
        odd_numbers,
    )
)
methods = st.sampled_from(
    [b"GET"] * 6
    + [b"POST"] * 4
    + [b"HEAD", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"BREW"]
)


@st.composite
def requests_of(draw, prey, paths, names):
    """Bytes to send, of a caller who is known, is not, or signs."""
    method = draw(methods)
    # What may change something is asked in a project that nobody else needs.
    project = KEPT if method in {b"GET", b"HEAD"} else SPOILT
    ids = prey.ids[project]
    token = prey.token if project == KEPT else prey.spoilt_token
    target = draw(targets(paths, ids, names)).encode("ascii")
    body = draw(bodies) if method not in {b"GET", b"HEAD"} else draw(st.just(b"") | bodies)
    sent = [(b"Host", f"127.0.0.1:{prey.port}".encode()), *draw(fields)]
    who = draw(st.sampled_from(["token", "token", "token", "signature", "nobody"]))
    if who == "token":
        sent.append((b"X-Auth-Token", token.encode()))
    elif who == "signature":
        sent += signed(prey.key, method, target, body, sent[0][1])
    framing, framed = draw(framings(body))
    head = b"".join(name + b": " + value + b"\r\n" for name, value in [*sent, *framing])
    version = draw(st.sampled_from([b"HTTP/1.1"] * 8 + [b"HTTP/1.0", b"HTTP/2.0", b"HTP"]))
    line = method + b" " + target + b" " + version + b"\r\n"
    whole = line + head + b"\r\n" + framed
    return draw(damaged(whole))


def signed(key, method, target, body, host):
    """The header fields of a good signature; whatever is damaged later makes it a bad one."""
    path, _, query = target.decode().partition("?")
    date = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": host.decode(), "x-sdk-date": date, "content-type": "application/json"}
    asked = Asked(method=method.decode(), path=path, query=query, headers=headers, body=body)
    signature = "0" * 64
    with contextlib.suppress(Exception):
        signature = expected_signature(asked, sorted(headers), key["secret_key"])
    names = ";".join(sorted(headers))
    authorization = (
        f"SDK-HMAC-SHA256 Access={key['access_key']}, SignedHeaders={names}, Signature={signature}"
    )
    return [
        (b"X-Sdk-Date", date.encode()),
        (b"Content-Type", b"application/json"),
        (b"Authorization", authorization.encode()),
        (b"X-Sdk-Content-Sha256", hashlib.sha256(body).hexdigest().encode()),
    ]


def framings(body):
    """How the body's length is told: rightly, most of the time."""
    right = ([(b"Content-Length", b"%d" % len(body))], body)
    chunked = [(b"Transfer-Encoding", b"chunked")]
    chunks = b"%x;x=y\r\n%s\r\n" % (len(body), body) if body else b""
    return st.sampled_from(
        [right] * 10
        + [
            (chunked, chunks + b"0\r\n\r\n"),
            (chunked, chunks + b"0\r\nX: y\r\n\r\n"),
            (chunked, b"zz\r\n" + body),
            ([*chunked, *right[0]], body),
            ([(b"Content-Length", b"-1")], body),
            ([(b"Content-Length", b"9" * 30)], body),
            ([(b"Content-Length", b"1"), (b"Content-Length", b"2")], body),
            ([(b"Transfer-Encoding", b"gzip, chunked")], body),
        ]
    )


def damaged(whole):
    """Once in a while a byte is changed, put in or left out."""
    intact = st.just(whole)
    places = st.integers(0, len(whole) - 1)
    changed = st.builds(
        lambda at, byte, skip: whole[:at] + byte + whole[at + skip :],
        places,
        st.binary(max_size=2) | st.sampled_from([b"\r", b"\n", b"\0", b" ", b"\r\n\r\n"]),
        st.integers(0, 2),
    )
    return st.one_of(intact, intact, intact, intact, intact, changed)


# --- one exchange --------------------------------------------------------------------------------


def exchange(prey, sent: bytes) -> bytes:
    """Everything that the server answers until it closes, or until nothing more comes."""
    received = b""
    with socket.create_connection(("127.0.0.1", prey.port), timeout=ENOUGH_S) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(sent)
        with contextlib.suppress(OSError):
            while not first_answer(received, sent)[2]:
                piece = connection.recv(65536)
                if not piece:
                    break
                received += piece
    return received


def first_answer(received: bytes, sent: bytes) -> tuple[bytes, bytes, bool]:
    """The head and body of the first answer in what came, and whether it is all there.

    What a request left unread may be answered as a second one.
    """
    head, blank, rest = received.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: (\d+)", head.lower())
    if not blank or length is None:
        return head, rest, False
    whole = 0 if sent.startswith(b"HEAD ") else int(length[1])
    return head, rest[:whole], len(rest) >= whole


def check(prey, sent: bytes, received: bytes) -> None:
    if not received:
        prey.count(0)
        return
    head, body, _ = first_answer(received, sent)
    status = int(head.split(maxsplit=2)[1])
    prey.count(status)
    shown = f"{sent[:2000]!r} was answered {received[:2000]!r}; {prey.complaints()}"
    # There is room for every request here, and nothing is down.
    assert status < 500, shown
    if status == 100:
        return
    assert b"\r\nx-request-id: " in head.lower(), shown
    if status >= 400 and body and b"content-type: application/json" in head.lower():
        assert {"error_code", "error_msg"} <= set(json.loads(body)), shown
    else:
        assert status < 400 or sent.startswith(b"HEAD"), shown


def test_no_request_is_too_odd_and_none_changes_anything(prey, record_property):
    document = prey.document()
    refused = {re.sub(r":\w+}", "}", operation.route) for operation in OPERATIONS}
    paths = [
        *sorted(set(document["paths"]) | refused),
        "/",
        "/nowhere",
        "*",
        "http://x/v5/{project_id}/image",
    ]
    names = sorted(
        {
            parameter["name"]
            for item in document["paths"].values()
            for operation in item.values()
            for parameter in operation["parameters"]
            if parameter["in"] == "query"
        }
    )

    @settings(
        max_examples=max(100, round(REQUESTS * SHARE)),
        database=None,
        deadline=None,
        derandomize=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(sent=requests_of(prey, paths, names))
    def throw(sent):
        check(prey, sent, exchange(prey, sent))

    with prey.watched(record_property, KEPT):
        throw()
