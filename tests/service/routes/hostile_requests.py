"""Requests that someone may send to do harm, or by mistake, and what each is answered with: status and code.

They are bytes, as a client would never let itself be brought to send them. The code is empty where no problem is told:
an answer of the server below the application, or a success.
"""

from typing import NamedTuple

JSON = b"application/json"
FORM = b"multipart/form-data; boundary=x"
JOBS, EMBEDDINGS, CLASSIFY, IMAGES = b"/v1/jobs", b"/v1/embeddings", b"/v1/classify", b"/v1/images"
MEMBER = b"/v1/collections/pets/images/" + b"0" * 64
JOB = b"/v1/jobs/job_" + b"0" * 26
NO_MODEL = (409, "no_production_model")
DEEP = b"[" * 100_000
DIGITS = b"9" * 5000


class Case(NamedTuple):
    """A request and its answer."""

    request: bytes
    status: int
    code: str


def request(method: bytes, target: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    """A whole request; the server closes the connection after it."""
    return b"\r\n".join([b"%b %b HTTP/1.1" % (method, target), b"Host: x", b"Connection: close", *headers, b"", body])


def get(target: bytes, *headers: bytes) -> bytes:
    return request(b"GET", target, *headers)


def send(target: bytes, body: bytes, content_type: bytes = JSON, *headers: bytes, method: bytes = b"POST") -> bytes:
    """A request with a body, of the length that it says."""
    length = b"Content-Length: %d" % len(body)
    return request(method, target, b"Content-Type: " + content_type, length, *headers, body=body)


def part(disposition: bytes, content: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join([b"--x", b"Content-Disposition: form-data; " + disposition, *headers, b"", content, b""])


def form(*parts: bytes, end: bytes = b"--x--\r\n") -> bytes:
    return b"".join(parts) + end


FILE = part(b'name="files"; filename="a.png"', b"no image", b"Content-Type: image/png")

# Bodies, and how a parser for FastAPI's JSON (jobs) and pydantic's own (embeddings) answer.
JSONS: dict[str, tuple[bytes, tuple[int, str], tuple[int, str]]] = {
    "nothing": (b"", (422, "invalid"), (400, "bad_request")),
    "truncated": (b'{"kind": "pre', (400, "bad_request"), (400, "bad_request")),
    "something after it": (b'{"kind": "pretrain"} {}', (400, "bad_request"), (400, "bad_request")),
    "a comment": (b'{"kind": "pretrain" /* one */}', (400, "bad_request"), (400, "bad_request")),
    "single quotes": (b"{'kind': 'pretrain'}", (400, "bad_request"), (400, "bad_request")),
    "deep arrays": (DEEP, (400, "bad_request"), (400, "bad_request")),
    "deep objects": (b'{"a":' * 100_000, (400, "bad_request"), (400, "bad_request")),
    "deep but closed": (b'{"input":' * 500 + b"1" + b"}" * 500, (422, "invalid"), (400, "bad_request")),
    "5,000 digits": (b'{"dimensions": %b}' % DIGITS, (400, "bad_request"), (400, "bad_request")),
    "4,000 digits": (b'{"dimensions": %b}' % DIGITS[:4000], (422, "invalid"), (422, "invalid")),
    "a float beyond floats": (b'{"dimensions": 1e400}', (422, "invalid"), (422, "invalid")),
    "NaN": (b'{"dimensions": NaN}', (422, "invalid"), (422, "invalid")),
    "Infinity": (b'{"dimensions": -Infinity}', (422, "invalid"), (422, "invalid")),
    "invalid UTF-8": (b'{"kind": "\xff"}', (400, "bad_request"), (400, "bad_request")),
    "an overlong encoding": (b'{"kind": "\xc0\x80"}', (400, "bad_request"), (400, "bad_request")),
    "a surrogate in UTF-8": (b'{"kind": "\xed\xa0\x80"}', (422, "invalid"), (400, "bad_request")),
    "half a character": (b'{"kind": "\\ud800"}', (422, "invalid"), (400, "bad_request")),
    "half a character as a key": (b'{"\\ud800": 1}', (422, "invalid"), (400, "bad_request")),
    "a NUL, escaped": (b'{"kind": "\\u0000"}', (422, "invalid"), (422, "invalid")),
    "a NUL as a key": (b'{"\\u0000": 1}', (422, "invalid"), (422, "invalid")),
    "a NUL": (b'{"kind": "\x00"}', (400, "bad_request"), (400, "bad_request")),
    "keys of other scripts": (
        b'{"\xd0\xba": 1, "\xe2\x80\xae": 2, "\xf0\x9f\x98\x80": 3}',  # Cyrillic, right to left, a smile
        (422, "invalid"),
        (422, "invalid"),
    ),
    "a key twice": (b'{"kind": "pretrain", "kind": "cook"}', (422, "invalid"), (422, "invalid")),
    "a byte order mark": (b"\xef\xbb\xbf{}", (422, "invalid"), (400, "bad_request")),
    "UTF-16": ('{"kind": 1}'.encode("utf-16"), (422, "invalid"), (400, "bad_request")),
    "an array": (b"[1]", (422, "invalid"), (422, "invalid")),
    "null": (b"null", (422, "invalid"), (422, "invalid")),
    "a text": (b'"kind"', (422, "invalid"), (422, "invalid")),
    "a thousand keys": (b"{%b}" % b",".join(b'"k%d":1' % i for i in range(1000)), (422, "invalid"), (422, "invalid")),
    "a prototype": (b'{"__proto__": {"a": 1}, "__class__": 1}', (422, "invalid"), (422, "invalid")),
    "a pickle": (b"\x80\x04cos\nsystem\n(S'id'\ntR.", (400, "bad_request"), (400, "bad_request")),
    "XML": (
        b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
        (400, "bad_request"),
        (400, "bad_request"),
    ),
}

URIS = {
    "nothing after the comma": (b"data:;base64,", "undecodable"),
    "what is no base64": (b"data:;base64,????", "invalid"),
    "base64 of another script": (b"data:;base64,\\ud83d\\ude00", "invalid"),
    "half of a byte": (b"data:;base64,A", "invalid"),
    "no base64": (b"data:text/html,<script>", "invalid"),
    "an address": (b"http://169.254.169.254/latest/meta-data", "invalid"),
    "a file": (b"file:///etc/passwd", "invalid"),
}

MEMBERS = {
    "NaN in metadata": b'{"metadata": {"a": NaN}}',
    "a NUL in metadata": b'{"metadata": {"a": "\\u0000"}}',
    "a NUL in a key of metadata": b'{"metadata": {"\\u0000": 1}}',
    "half a character in metadata": b'{"metadata": {"a": "\\udfff"}}',
    "half a character in a key of metadata": b'{"metadata": {"\\udfff": 1}}',
    "an object in metadata": b'{"metadata": {"a": {"b": 1}}}',
    "a label of a megabyte": b'{"label": "%b"}' % (b"a" * 300_000),
    "a NUL in a label": b'{"label": "a\\u0000"}',
    "a label that is a number": b'{"label": 1}',
}

CONTENT_TYPES = {
    "text": send(JOBS, b"{}", b"text/plain"),
    "what curl sends": send(JOBS, b"{}", b"application/x-www-form-urlencoded"),
    "nearly JSON": send(JOBS, b"{}", b"application/jsonx"),
    "JSON of another standard": send(JOBS, b"{}", b"application/problem+json"),
    "none": request(b"POST", JOBS, b"Content-Length: 2", body=b"{}"),
    "empty": send(JOBS, b"{}", b""),
    "no type at all": send(JOBS, b"{}", b";;;,"),
    "two": send(JOBS, b"{}", JSON, b"Content-Type: text/plain"),
    "the same twice": send(JOBS, b"{}", JSON, b"Content-Type: application/json"),
    "a form where JSON is asked for": send(JOBS, form(FILE), FORM),
    "JSON where a form is asked for": send(IMAGES, b"{}"),
    "JSON in place of an archive": send(b"/v1/datasets", b"{}"),
    "a form without files in place of an archive": send(b"/v1/datasets", b"a=1", b"application/x-www-form-urlencoded"),
    "JSON in place of a table": send(b"/v1/collections/pets/import", b"{}"),
    "bytes of another script": send(JOBS, b"{}", b"application/json\xe2\x80\x93"),
}

FORMS: dict[str, tuple[bytes, int, str]] = {
    "no boundary": (send(IMAGES, form(FILE), b"multipart/form-data"), 400, "bad_request"),
    "an empty boundary": (send(IMAGES, form(FILE), b"multipart/form-data; boundary="), 400, "bad_request"),
    "a boundary of 10,000 bytes": (
        send(IMAGES, form(FILE), b"multipart/form-data; boundary=" + b"x" * 10_000),
        400,
        "bad_request",
    ),
    "another boundary": (send(IMAGES, form(FILE), b"multipart/form-data; boundary=y"), 400, "bad_request"),
    "a boundary of bytes": (send(IMAGES, form(FILE), b"multipart/form-data; boundary=\xff\xfe"), 400, "bad_request"),
    "no end": (send(IMAGES, form(FILE, end=b""), FORM), 400, "bad_request"),
    "nothing": (send(IMAGES, b"", FORM), 400, "bad_request"),
    "only its end": (send(IMAGES, form(), FORM), 422, "invalid"),
    "a part without a name": (send(IMAGES, form(part(b'filename="a"', b"a")), FORM), 400, "bad_request"),
    "a part without headers": (send(IMAGES, b"--x\r\n\r\na\r\n--x--\r\n", FORM), 400, "bad_request"),
    "a part of a broken header": (send(IMAGES, b"--x\r\nno header\r\n\r\na\r\n--x--\r\n", FORM), 400, "bad_request"),
    "a header of a part without end": (send(IMAGES, b"--x\r\nA: " + b"a" * 300_000, FORM), 400, "bad_request"),
    "1,001 fields": (send(IMAGES, form(*[part(b'name="a"', b"a")] * 1001), FORM), 400, "bad_request"),
    "1,001 files": (send(IMAGES, form(*[FILE] * 1001), FORM), 413, "too_many_images"),
    "257 files": (send(IMAGES, form(*[FILE] * 257), FORM), 413, "too_many_images"),
    "a text for a file": (send(IMAGES, form(part(b'name="files"', b"a")), FORM), 422, "invalid"),
    "a file for a text": (
        send(IMAGES, form(FILE, part(b'name="collection"; filename="a"', b"pets")), FORM),
        422,
        "invalid",
    ),
    "a field that is none": (send(IMAGES, form(FILE, part(b'name="nothing"', b"a")), FORM), 422, "invalid"),
    "a field of another script": (send(IMAGES, form(FILE, part('name="ключ"'.encode(), b"a")), FORM), 422, "invalid"),
    "a NUL in a field": (send(IMAGES, form(FILE, part(b'name="label"', b"a\0")), FORM), 422, "invalid"),
    "a NUL in a name": (send(IMAGES, form(FILE, part(b'name="a\0"', b"a")), FORM), 422, "invalid"),
    "labels that are no JSON": (send(IMAGES, form(FILE, part(b'name="labels"', b"[")), FORM), 422, "invalid"),
    "deep labels": (send(IMAGES, form(FILE, part(b'name="labels"', DEEP)), FORM), 422, "invalid"),
    "half a character in labels": (
        send(IMAGES, form(FILE, part(b'name="labels"', b'["\\ud800"]')), FORM),
        422,
        "invalid",
    ),
    "NaN in metadata": (send(IMAGES, form(FILE, part(b'name="metadata"', b'{"a": NaN}')), FORM), 422, "invalid"),
    "5,000 digits in metadata": (
        send(IMAGES, form(FILE, part(b'name="metadata"', b'{"a": %b}' % DIGITS)), FORM),
        422,
        "invalid",
    ),
    "a threshold that is no number": (
        send(IMAGES, form(FILE, part(b'name="duplicate_threshold"', b"nan")), FORM),
        422,
        "invalid",
    ),
    "a charset that decodes nothing": (
        send(IMAGES, form(FILE, part(b'name="label"', b"a")), FORM + b"; charset=undefined"),
        400,
        "bad_request",
    ),
    "a charset that makes half a character": (
        send(IMAGES, form(FILE, part(b'name="label"', b"\\ud800")), FORM + b"; charset=unicode_escape"),
        422,
        "invalid",
    ),
    "a charset that makes half a character of a name": (
        send(IMAGES, form(FILE, part(b'name="\\ud800"', b"a")), FORM + b"; charset=unicode_escape"),
        422,
        "invalid",
    ),
    "a charset that is none": (send(IMAGES, form(FILE), FORM + b"; charset=../../etc/passwd"), 200, ""),
    "a path as a file's name": (
        send(IMAGES, form(part(b'name="files"; filename="../../../etc/passwd"', b"a")), FORM),
        200,
        "",
    ),
    "a part in a part": (send(IMAGES, form(FILE, part(b'name="label"', form(FILE))), FORM), 200, ""),
    "a field of a megabyte": (send(IMAGES, form(FILE, part(b'name="label"', b"a" * 400_000)), FORM), 422, "invalid"),
}

LENGTHS = {
    "negative": (request(b"POST", JOBS, b"Content-Length: -1", body=b"{}"), 400, ""),
    "no number": (request(b"POST", JOBS, b"Content-Length: two", body=b"{}"), 400, ""),
    "hexadecimal": (request(b"POST", JOBS, b"Content-Length: 0x2", body=b"{}"), 400, ""),
    "signed": (request(b"POST", JOBS, b"Content-Length: +2", body=b"{}"), 400, ""),
    "two": (request(b"POST", JOBS, b"Content-Length: 2", b"Content-Length: 3", body=b"{}"), 400, ""),
    "beyond 64 bits": (request(b"POST", JOBS, b"Content-Length: " + DIGITS[:30], body=b"{}"), 400, ""),
    "beyond the limit": (request(b"POST", JOBS, b"Content-Type: " + JSON, b"Content-Length: 500001"), 413, "too_large"),
    "and chunks": (
        request(b"POST", JOBS, b"Content-Length: 2", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        400,
        "",
    ),
    "a chunk of no length": (
        request(b"POST", JOBS, b"Content-Type: " + JSON, b"Transfer-Encoding: chunked", body=b"xyz\r\n"),
        400,
        "",
    ),
    "an encoding that is none": (request(b"POST", JOBS, b"Transfer-Encoding: cow", body=b"{}"), 400, ""),
    "shorter than the body": (
        request(b"POST", JOBS, b"Content-Type: " + JSON, b"Content-Length: 1", body=b"{}"),
        400,
        "bad_request",
    ),
}

HEADERS = {
    "one without end": (b"GET / HTTP/1.1\r\nA: " + b"a" * 70_000, 431, ""),
    "3,000 without end": (b"GET / HTTP/1.1" + b"\r\nA: 01234567890123456789" * 3000, 431, ""),
    "an address without end": (b"GET /" + b"a" * 70_000, 431, ""),
    "an address of 60 kB": (get(JOBS + b"?a=" + b"a" * 60_000), 200, ""),
    "one without a colon": (get(JOBS, b"nothing"), 400, ""),
    "one without a name": (get(JOBS, b": nothing"), 400, ""),
    "a NUL": (get(JOBS, b"A: \0"), 400, ""),
    "a line feed alone": (get(JOBS, b"A: a\nB: b"), 400, ""),
    "a folded one": (get(JOBS, b"A: a", b" b"), 400, ""),
    "bytes of no script": (get(JOBS, b"A: \xff\xfe"), 200, ""),
    "a host that is none": (get(b"/nothing", b"Host: ["), 404, "not_found"),
    "a host of another script": (get(b"/nothing", b"Host: \xff"), 404, "not_found"),
    "an Accept that is none": (get(JOB + b"/report", b"Accept: ;q=nan,,/,*;q=-1"), 404, "not_found"),
    "an Accept of 5,000": (get(JOB + b"/report", b"Accept: " + b"a/b;q=0.1," * 5000), 404, "not_found"),
    "an event that is none": (
        get(JOB + b"/events", b"Accept: text/event-stream", b"Last-Event-ID: x"),
        404,
        "not_found",
    ),
    "a waiting time of no number": (
        send(EMBEDDINGS, form(FILE), FORM, b"X-Request-Timeout: nan"),
        422,
        "invalid",
    ),
    "a waiting time without end": (send(EMBEDDINGS, form(FILE), FORM, b"X-Request-Timeout: inf"), 422, "invalid"),
    "a waiting time of next to nothing": (
        send(EMBEDDINGS, form(FILE), FORM, b"X-Request-Timeout: 1e-320"),
        *NO_MODEL,
    ),
    "an upgrade": (get(JOBS, b"Connection: upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"), 400, ""),
}

IDEMPOTENCY_KEYS = {
    "empty": b"",
    "of 256 characters": b"a" * 256,
    "with a space": b"a b",
    "of another script": "ключ".encode(),
    "with a tabulator": b"a\tb",
}

TARGETS: dict[str, tuple[bytes, int, str]] = {
    "up and away": (get(b"/v1/jobs/../../etc/passwd"), 404, "not_found"),
    "up and away, encoded": (get(b"/v1/jobs/..%2f..%2fetc%2fpasswd"), 404, "not_found"),
    "up and away, half encoded": (get(b"/v1/jobs/%2e%2e/%2e%2e/etc/passwd"), 404, "not_found"),
    "up and away, encoded twice": (get(b"/v1/jobs/%252e%252e%252fetc"), 422, "invalid"),
    "up and away with backslashes": (get(b"/v1/jobs/..%5c..%5cetc"), 422, "invalid"),
    "up from a collection": (get(b"/v1/collections/.."), 422, "invalid"),
    "up from a model's files": (get(b"/v1/models/mdl_" + b"0" * 26 + b"/files/..%2f..%2fa"), 404, "not_found"),
    "a model's file above": (get(b"/v1/models/mdl_" + b"0" * 26 + b"/files/%2e%2e"), 422, "invalid"),
    "up from the page": (get(b"/web/../service/app.py"), 404, "not_found"),
    "up from the page, encoded": (get(b"/web/..%2fapp.py"), 404, "not_found"),
    "an absolute path in the page": (get(b"/web//etc/passwd"), 404, "not_found"),
    "a NUL": (get(b"/v1/jobs/%00"), 422, "invalid"),
    "a NUL in a collection": (get(b"/v1/collections/a%00"), 422, "invalid"),
    "a NUL in the page": (get(b"/web/%00"), 404, "not_found"),
    "a line feed at the end of an id": (get(JOB + b"%0a"), 422, "invalid"),
    "bytes of no script": (get(b"/v1/jobs/%ff%fe"), 422, "invalid"),
    "half an escape": (get(b"/v1/jobs/%"), 422, "invalid"),
    "an escape that is none": (get(b"/v1/jobs/%zz"), 422, "invalid"),
    "capitals": (get(b"/V1/JOBS"), 404, "not_found"),
    "a slash more": (get(b"/v1/jobs/"), 404, "not_found"),
    "a slash in between": (get(b"/v1//jobs"), 404, "not_found"),
    "a slash before": (get(b"//v1/jobs"), 404, "not_found"),
    "a parameter of the path": (get(b"/v1/jobs;a=b"), 404, "not_found"),
    "another host's address": (get(b"http://elsewhere/nothing"), 404, "not_found"),
    "a star": (request(b"OPTIONS", b"*"), 404, "not_found"),
    "no slash": (get(b"v1/jobs"), 400, ""),
    "a space": (get(b"/v1/jobs/a b"), 400, ""),
    "bytes": (get(b"/v1/jobs/\xff"), 400, ""),
    "bytes in a query": (get(b"/v1/jobs?a=\xff"), 400, ""),
    "a limit of a NUL": (get(b"/v1/jobs?limit=%00"), 422, "invalid"),
    "a limit of 5,000 digits": (get(b"/v1/jobs?limit=" + DIGITS), 422, "invalid"),
    "a limit of other digits": (get(b"/v1/jobs?limit=" + b"%d9%a1"), 422, "invalid"),
    "a limit that is a list": (get(b"/v1/jobs?limit[]=1&limit[a]=2"), 200, ""),
    "two limits": (get(b"/v1/jobs?limit=0&limit=0"), 422, "invalid"),
    "a cursor with SQL": (get(b"/v1/jobs?cursor=%27;drop+table+job;--"), 422, "invalid"),
    "a cursor of NUL": (get(b"/v1/collections/pets/labels?cursor=%00"), 422, "invalid"),
    "a cursor of 5,000 digits": (get(b"/v1/audit?cursor=" + DIGITS), 422, "invalid"),
    "a deep filter": (get(b"/v1/images?filter=" + b"[" * 10_000), 422, "invalid"),
    "a deep filter that is one": (
        get(b"/v1/images?filter=" + b'{"op":"not","filter":' * 400 + b"1" + b"}" * 400),
        422,
        "invalid",
    ),
    "a filter of a NUL": (
        get(b'/v1/images?filter={"op":"equals","field":"label","value":"%5cu0000"}'),
        422,
        "invalid",
    ),
    "a filter of 4,000 digits": (
        get(b'/v1/images?collection=none&filter={"op":"equals","field":"metadata.a","value":%b}' % DIGITS[:4000]),
        404,
        "not_found",
    ),
    "a threshold that is no number": (get(b"/v1/collections/pets/duplicates?threshold=nan"), 422, "invalid"),
    "a million parameters": (get(b"/v1/jobs?" + b"&" * 60_000), 200, ""),
}

METHODS = {
    "one that is none": (request(b"COOK", JOBS), 400, ""),
    "in small letters": (request(b"get", JOBS), 400, ""),
    "HEAD": (request(b"HEAD", JOBS), 200, ""),
    "TRACE": (request(b"TRACE", JOBS), 405, "method_not_allowed"),
    "CONNECT": (request(b"CONNECT", b"elsewhere:80"), 400, ""),
    "OPTIONS": (request(b"OPTIONS", JOBS), 405, "method_not_allowed"),
    "a version that is none": (b"GET /v1/jobs HTTP/9.9\r\nHost: x\r\n\r\n", 400, ""),
    "no version": (b"GET /v1/jobs\r\n\r\n", 200, ""),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32), 400, ""),
    "bytes": (bytes(range(256)), 400, ""),
}


def cases() -> dict[str, Case]:
    """All of them, by what they are."""
    found = {}
    for name, (body, of_jobs, of_embeddings) in JSONS.items():
        found[f"JSON of a job: {name}"] = Case(send(JOBS, body), *of_jobs)
        found[f"JSON of embeddings: {name}"] = Case(send(EMBEDDINGS, body), *of_embeddings)
    for name, (uri, code) in URIS.items():
        body = b'{"model": "made", "input": ["%b"]}' % uri
        found[f"data URI: {name}"] = Case(send(EMBEDDINGS, body), 422, code)
    for name, body in MEMBERS.items():
        found[f"JSON of a member: {name}"] = Case(send(MEMBER, body, method=b"PUT"), 422, "invalid")
    for name, sent in CONTENT_TYPES.items():
        found[f"Content-Type: {name}"] = Case(sent, 415, "unsupported_media_type")
    for name, key in IDEMPOTENCY_KEYS.items():
        sent = send(JOBS, b'{"kind": "index", "model_id": "mdl_%b"}' % (b"0" * 26), JSON, b"Idempotency-Key: " + key)
        found[f"Idempotency-Key: {name}"] = Case(sent, 422, "invalid")
    tables = {"a form": FORMS, "Content-Length": LENGTHS, "a header": HEADERS, "a target": TARGETS, "a method": METHODS}
    for what, table in tables.items():
        found |= {f"{what}: {name}": Case(*case) for name, case in table.items()}
    return found
