#!/usr/bin/env python3
"""Recomputes every vector in this folder from docs/PROTOCOL.md alone; shares no code with the Rust implementation.

Needs Python 3.9 and `pip install cryptography` (AES and RSA; the rest is below). Run from anywhere:
    python3 sdk/tests/vectors/check.py
"""

import hashlib
import hmac
import json
import pathlib
import re
import sys

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

HERE = pathlib.Path(__file__).parent
TAGS = {1: "message", 2: "key-request", 3: "key-answer", 4: "key-push", 5: "key-receipt", 6: "publisher-record", 7: "stream-record",
        8: "signed-grant", 9: "resend-request", 10: "resend-page", 11: "storage-record", 12: "audit-head"}


# Section 1: Protocol Buffers, as much as is needed.

def varint(n):
    out = b""
    while n > 0x7F:
        out, n = out + bytes([n & 0x7F | 0x80]), n >> 7
    return out + bytes([n])


def number(field, n):
    return varint(field << 3) + varint(n) if n else b""


def data(field, value):
    value = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(value)) + value if value else b""


def each(field, values):
    return b"".join(varint(field << 3 | 2) + varint(len(v)) + v for v in (v.encode() if isinstance(v, str) else v for v in values))


def present(field, value):
    return varint(field << 3 | 2) + varint(len(value)) + value


class Refused(Exception):
    pass


def need(rule, text):
    if not rule:
        raise Refused(text)


def varint_at(encoded, at):
    """A varint, and the place behind it."""
    n = shift = 0
    while True:
        need(at < len(encoded) and shift < 64, "a varint is cut short or too long")
        n, shift, at = n | (encoded[at] & 0x7F) << shift, shift + 7, at + 1
        if encoded[at - 1] < 0x80:
            need(n < 2**64, "a varint is too large")
            return n, at


def fields(encoded):
    """Field number to its values: int for a varint, bytes for the length-delimited."""
    found, at = {}, 0
    while at < len(encoded):
        key, at = varint_at(encoded, at)
        field, wire = key >> 3, key & 7
        need(field > 0 and wire in (0, 1, 2, 5), "no such field or wire type")
        if wire == 0:
            value, at = varint_at(encoded, at)
        else:
            length, at = varint_at(encoded, at) if wire == 2 else ({1: 8, 5: 4}[wire], at)
            need(at + length <= len(encoded), "a field is cut short")
            value, at = encoded[at:at + length], at + length
        found.setdefault(field, []).append(value)
    return found


def last(found, field, default):
    value = found.get(field, [default])[-1]
    need(type(value) is type(default), "wrong wire type")
    return value


def text(value):
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Refused("not UTF-8") from None


# Section 2: names.

def keccak256(message):
    rate, mask = 136, 2**64 - 1
    rounds, r = [], 1
    for _ in range(24):
        constant = 0
        for j in range(7):
            constant |= (r & 1) << (2**j - 1)
            r = r << 1 ^ (0x171 if r & 0x80 else 0)
        rounds.append(constant)
    rol = lambda v, n: (v << n % 64 | v >> (64 - n % 64)) & mask if n % 64 else v
    padded = bytearray(message + b"\x01" + bytes(-(len(message) + 1) % rate))
    padded[-1] |= 0x80
    a = [[0] * 5 for _ in range(5)]
    for block in range(0, len(padded), rate):
        for i in range(rate // 8):
            a[i % 5][i // 5] ^= int.from_bytes(padded[block + 8 * i:block + 8 * i + 8], "little")
        for constant in rounds:
            c = [a[x][0] ^ a[x][1] ^ a[x][2] ^ a[x][3] ^ a[x][4] for x in range(5)]
            d = [c[(x - 1) % 5] ^ rol(c[(x + 1) % 5], 1) for x in range(5)]
            a = [[a[x][y] ^ d[x] for y in range(5)] for x in range(5)]
            b = [[0] * 5 for _ in range(5)]
            b[0][0] = a[0][0]
            x, y = 1, 0
            for t in range(24):
                b[y][(2 * x + 3 * y) % 5] = rol(a[x][y], (t + 1) * (t + 2) // 2)
                x, y = y, (2 * x + 3 * y) % 5
            a = [[b[x][y] ^ ~b[(x + 1) % 5][y] & b[(x + 2) % 5][y] & mask for y in range(5)] for x in range(5)]
            a[0][0] ^= constant
    return b"".join(a[i % 5][i // 5].to_bytes(8, "little") for i in range(4))


def stream_id(name):
    need(len(name.encode()) <= 255 and re.fullmatch(r'[!"$-~]+', name), "a stream id is visible ASCII without #")
    owner, slash, path = name.partition("/")
    need(slash and path, "a stream id is owner/path")
    if owner.startswith("0x"):
        need(re.fullmatch(r"0x[0-9a-f]{40}", owner), "an owner is a lower-case address")
    else:
        need(re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)+", owner), "an owner is an ENS name")
    return name


def stream_part(name):
    stream, hash_sign, n = name.rpartition("#")
    need(hash_sign and re.fullmatch(r"0|[1-9][0-9]?", n), "a part is id#n")
    return stream_id(stream), int(n)


def key_id(name):
    need(re.fullmatch(r"[!-~]{1,64}", name), "a key id is 1 to 64 visible ASCII characters")
    return name


def partition_of_key(key, count):
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % count


# Section 3: signatures.

P = 2**256 - 2**32 - 977
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
G = (0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
     0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8)


def add(a, b):
    if a is None or b is None:
        return a or b
    if a[0] == b[0] and (a[1] + b[1]) % P == 0:
        return None
    slope = (3 * a[0]**2 * pow(2 * a[1], -1, P) if a == b else (b[1] - a[1]) * pow(b[0] - a[0], -1, P)) % P
    x = (slope**2 - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def times(n, point):
    total = None
    while n:
        total, point, n = add(total, point) if n & 1 else total, add(point, point), n >> 1
    return total


def be(n, size=32):
    return n.to_bytes(size, "big")


def address(point):
    return keccak256(be(point[0]) + be(point[1]))[12:]


def user_of(secret):
    return address(times(int.from_bytes(secret, "big"), G))


def digest(kind, content):
    tag = b"veilcast/1/" + TAGS[kind].encode()
    return hashlib.sha256(be(len(tag), 1) + tag + be(len(content), 8) + content).digest()


def rfc6979(secret, hashed):
    mac = lambda k, m: hmac.new(k, m, hashlib.sha256).digest()
    seed = secret + be(int.from_bytes(hashed, "big") % N)
    k, v = bytes(32), b"\x01" * 32
    for byte in (b"\0", b"\1"):
        k = mac(k, v + byte + seed)
        v = mac(k, v)
    while True:
        v = mac(k, v)
        if 0 < int.from_bytes(v, "big") < N:
            return int.from_bytes(v, "big")
        k = mac(k, v + b"\0")
        v = mac(k, v)


def sign(secret, kind, content):
    hashed = digest(kind, content)
    nonce = rfc6979(secret, hashed)
    point = times(nonce, G)
    r, v = point[0] % N, point[1] & 1 | (point[0] >= N) << 1
    s = pow(nonce, -1, N) * (int.from_bytes(hashed, "big") + r * int.from_bytes(secret, "big")) % N
    if s > N // 2:
        s, v = N - s, v ^ 1
    return be(r) + be(s) + bytes([v])


def signer(signature, kind, content):
    need(len(signature) == 65, "a signature has 65 bytes")
    r, s, v = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big"), signature[64]
    need(v <= 3 and 0 < r < N and 0 < s <= N // 2, "r, s or v out of range")
    x = r + N * (v >> 1)
    y = pow(x**3 + 7, (P + 1) // 4, P)
    need(x < P and y * y % P == (x**3 + 7) % P, "r is on no point")
    point = (x, y if y & 1 == v & 1 else P - y)
    e = int.from_bytes(digest(kind, content), "big")
    key = add(times(s * pow(r, -1, N) % N, point), times(-e * pow(r, -1, N) % N, G))
    need(key, "no key made this signature")
    return address(key)


def envelope(secret, kind, content):
    return number(1, 1) + number(2, kind) + data(3, content) + data(4, sign(secret, kind, content))


# Section 6: ciphers.

def context(*parts):
    parts = [p.encode() if isinstance(p, str) else p for p in parts]
    return b"".join(be(len(p), 4) + p for p in parts)


def derive(ikm, info):
    prk = hmac.new(b"veilcast/1", ikm, hashlib.sha256).digest()
    one = hmac.new(prk, info + b"\1", hashlib.sha256).digest()
    return one, hmac.new(prk, one + info + b"\2", hashlib.sha256).digest()


def ctr(key, iv, plaintext):
    return Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor().update(plaintext)


def seal(ikm, info, ad, iv, plaintext):
    enc, mac = derive(ikm, info)
    body = iv + ctr(enc, iv, plaintext)
    return body + hmac.new(mac, be(len(ad), 8) + ad + body, hashlib.sha256).digest()


def payload_info(publisher, stream, key):
    return context("veilcast/1/payload", publisher, stream, key)


def rotate_context(publisher, stream, key):
    return context("veilcast/1/rotate", publisher, stream, key)


def transport_context(publisher, stream, subscriber, request):
    return context("veilcast/1/transport", publisher, stream, subscriber, request)


def mgf1(seed, length):
    return b"".join(hashlib.sha256(seed + be(i, 4)).digest() for i in range(-(-length // 32)))[:length]


def oaep(public, label, seed, plaintext):
    k = (public.key_size + 7) // 8
    xor = lambda a, b: bytes(x ^ y for x, y in zip(a, b))
    block = hashlib.sha256(label).digest() + bytes(k - len(plaintext) - 66) + b"\1" + plaintext
    block = xor(block, mgf1(seed, len(block)))
    padded = b"\0" + xor(seed, mgf1(block, 32)) + block
    n = public.public_numbers()
    return be(pow(int.from_bytes(padded, "big"), n.e, n.n), k)


# Sections 4, 7, 8 and 9: contents, from the values named in a vector.

def ref(at):
    return number(1, at["timestamp"]) + number(2, at["sequence"])


def header(v):
    updates = [number(1, u["kind"]) + data(2, u["key_id"]) + data(3, u["wrapped_by"]) + data(4, raw(u["wrapped"])) for u in v["key_updates"]]
    return (data(1, v["stream"]) + number(2, v["partition"]) + data(3, raw(v["publisher"])) + data(4, raw(v["chain"]))
            + number(5, v["timestamp"]) + number(6, v["sequence"])
            + (present(7, ref(v["previous"])) if v["previous"] else b"")
            + number(8, v["content_type"]) + number(9, v["encryption"]) + data(10, v["key_id"]) + each(11, updates))


def message(v):
    return data(1, raw(v["header"])) + data(2, raw(v["payload"]))


def cursor(at):
    return number(1, at["since"]) + data(2, at["key_id"])


def key_request(v):
    span = v.get("range")
    after = present(3, cursor(span["after"])) if span and span["after"] else b""
    return (data(1, raw(v["id"])) + data(2, v["stream"]) + data(3, raw(v["publisher"])) + data(4, raw(v["requester"]))
            + number(5, v["sent"]) + number(6, v["algorithm"]) + data(7, raw(v["public_key"])) + each(8, v["key_ids"])
            + (present(9, number(1, span["from"]) + number(2, span["to"]) + after) if span else b"")
            + each(10, map(raw, v.get("proofs", []))))


def key_answer(v):
    until = lambda g: b"" if g["until"] is None else varint(4 << 3) + varint(g["until"])
    granted = [data(1, g["key_id"]) + data(2, raw(g["wrapped"])) + number(3, g["since"]) + until(g) for g in v["granted"]]
    refused = [data(1, r["key_id"]) + number(2, r["reason"]) + number(3, r["millis"]) for r in v.get("refused", [])]
    return (data(1, raw(v["id"])) + data(2, v["stream"]) + data(3, raw(v["publisher"])) + data(4, raw(v["subscriber"]))
            + number(5, v["sent"]) + number(6, v["algorithm"]) + data(7, raw(v["encapsulated"])) + each(8, granted) + each(9, refused)
            + (present(10, cursor(v["next"])) if v.get("next") else b"")
            + (present(11, number(1, v["refusal"]["reason"]) + number(2, v["refusal"]["millis"])) if v.get("refusal") else b""))


def key_receipt(v):
    return data(1, raw(v["id"])) + data(2, raw(v["subscriber"])) + data(3, raw(v["publisher"])) + data(4, v["stream"])


def publisher_record(v):
    return (data(1, raw(v["publisher"])) + data(2, raw(v["peer"])) + each(3, [raw(a) for a in v["addresses"]])
            + number(4, v["issued"]) + number(5, v["expires"]) + number(6, v["slot"]))


def moment(field, value):
    """An optional moment: written even when it is 0."""
    return b"" if value is None else varint(field << 3) + varint(value)


def stream_record(v):
    revoked = [data(1, raw(r["user"])) + number(2, r["serial"]) + number(3, r["at"]) for r in v["revocations"]]
    publishers = [raw(p.removeprefix("0x")) for p in v["publishers"]]
    return (data(1, v["stream"]) + data(2, v["registry"]) + number(3, v["partitions"]) + number(4, v["public"])
            + moment(5, v["public_until"]) + each(6, publishers) + number(7, v["version"]) + number(8, v["issued"])
            + number(9, v["expires"]) + each(10, revoked) + each(11, [raw(p.removeprefix("0x")) for p in v["storage"]]))


def signed_grant(v):
    return (data(1, v["stream"]) + data(2, v["registry"]) + data(3, raw(v["user"])) + number(4, v["permission"])
            + moment(5, v["start"]) + moment(6, v["end"]) + number(7, v["serial"]) + number(8, v["issued"]))


def place(p):
    return number(1, p["timestamp"]) + number(2, p["sequence"]) + data(3, raw(p["publisher"])) + data(4, raw(p["chain"]))


def resend_request(v):
    return (data(1, raw(v["id"])) + data(2, v["stream"]) + number(3, v["partition"]) + data(4, raw(v["node"]))
            + data(5, raw(v["requester"])) + number(6, v["sent"]) + number(7, v["last"]) + number(8, v["from"]) + number(9, v["to"])
            + (present(10, place(v["after"])) if v["after"] else b"")
            + data(11, raw(v["publisher"])) + data(12, raw(v["chain"])) + each(13, map(raw, v["proofs"])))


def resend_page(v):
    return (data(1, raw(v["id"])) + data(2, v["stream"]) + number(3, v["partition"]) + data(4, raw(v["node"]))
            + data(5, raw(v["requester"])) + number(6, v["sent"]) + each(7, map(raw, v["messages"]))
            + (present(8, place(v["next"])) if v["next"] else b"")
            + (present(9, number(1, v["refusal"]["reason"]) + number(2, v["refusal"]["millis"])) if v["refusal"] else b""))


def storage_record(v):
    return (data(1, v["stream"]) + data(2, raw(v["node"])) + data(3, raw(v["peer"])) + each(4, [raw(a) for a in v["addresses"]])
            + number(5, v["issued"]) + number(6, v["expires"]) + number(7, v["slot"]))


def audit_head(v):
    return (data(1, raw(v["publisher"])) + data(2, raw(v["log"])) + number(3, v["at"]) + number(4, v["sequence"]) + data(5, raw(v["hash"]))
            + number(6, v["pruned"]) + data(7, raw(v["pruned_hash"])) + number(8, v["size"]))


ENCODERS = {1: message, 2: key_request, 3: key_answer, 4: key_answer, 5: key_receipt, 6: publisher_record, 7: stream_record,
            8: signed_grant, 9: resend_request, 10: resend_page, 11: storage_record, 12: audit_head}


# What a receiver checks before and by the signature. Returns the step that refuses.

def check_ids(found, *sized):
    for field, size in sized:
        need(len(last(found, field, b"")) == size, f"field {field} has {size} bytes")


def check_message(content):
    outer = fields(content)
    encoded, payload = last(outer, 1, b""), last(outer, 2, b"")
    need(len(encoded) <= 8192, "a header has at most 8192 bytes")
    head = fields(encoded)
    stream_id(text(last(head, 1, b"")))
    need(last(head, 2, 0) % 2**32 <= 99, "partition")
    check_ids(head, (3, 20), (4, 16))
    at = last(head, 5, 0), last(head, 6, 0) % 2**32
    if 7 in head:
        previous = fields(b"".join(head[7]))
        need((last(previous, 1, 0), last(previous, 2, 0) % 2**32) < at, "previous must be strictly before")
    need(last(head, 8, 0) in (1, 2, 3), "content type")
    need(last(head, 9, 0) in (0, 1), "encryption")
    need(not last(head, 9, 0) or len(payload) >= 48, "a sealed payload has at least 48 bytes")
    key = text(last(head, 10, b""))
    key_id(key) if last(head, 9, 0) else need(key == "", "a plaintext message names no key")
    need(len(head.get(11, [])) <= 8, "at most 8 key updates")
    for update in map(fields, head.get(11, [])):
        names = [text(last(update, field, b"")) for field in (2, 3)]
        if last(update, 1, 0) % 2**32 == 1:
            need(all(map(key_id, names)) and len(last(update, 4, b"")) == 80, "a rotated key has two ids and 80 bytes")
    return last(head, 3, b"")


def check_cursor(parts):
    """The moment of a place in a publisher's history."""
    place = fields(b"".join(parts))
    key_id(text(last(place, 2, b"")))
    return last(place, 1, 0)


def check_request(content):
    found = fields(content)
    check_ids(found, (1, 16), (3, 20), (4, 20))
    stream_id(text(last(found, 2, b"")))
    need(len(last(found, 7, b"")) <= 1024, "public key")
    proofs = found.get(10, [])
    need(len(proofs) <= 4 and sum(map(len, proofs)) <= 24 * 1024, "at most 4 proofs of 24 KiB together")
    keys = [key_id(text(k)) for k in found.get(8, [])]
    if 9 in found:
        need(not keys, "keys or a span of time, not both")
        span = fields(b"".join(found[9]))
        start, end = last(span, 1, 0), last(span, 2, 0)
        need(start <= end, "a span does not end before it begins")
        need(3 not in span or check_cursor(span[3]) <= end, "a page does not begin behind the end of its span")
    else:
        need(1 <= len(keys) <= 256 and len(set(keys)) == len(keys), "1 to 256 keys, each once")
    return last(found, 4, b"")


def check_answer(content, push=False):
    found = fields(content)
    check_ids(found, (1, 16), (3, 20), (4, 20))
    stream_id(text(last(found, 2, b"")))
    granted, refused = [[fields(v) for v in found.get(f, [])] for f in (8, 9)]
    need(len(granted) + len(refused) <= 256, "at most 256")
    need(bool(granted) == bool(last(found, 7, b"")) and len(last(found, 7, b"")) <= 512, "transport key")
    more = granted or refused or 10 in found
    need(not push or (granted and not refused and 10 not in found and 11 not in found), "a push carries keys and answers nothing")
    need(11 not in found or not more, "an answer that refuses a span says nothing else")
    need(last(found, 6, 0) % 2**32 == 1, "an answer or push in another algorithm cannot be read")
    for each_granted in granted:
        key_id(text(last(each_granted, 1, b"")))
        check_ids(each_granted, (2, 80))
    for each_refused in refused:
        key_id(text(last(each_refused, 1, b"")))
        need(last(each_refused, 2, 0) % 2**32 != 0, "a refusal has a reason")
    if 10 in found:
        check_cursor(found[10])
    if 11 in found:
        need(last(fields(b"".join(found[11])), 1, 0) % 2**32 != 0, "a refusal has a reason")
    return last(found, 3, b"")


def check_receipt(content):
    found = fields(content)
    check_ids(found, (1, 16), (2, 20), (3, 20))
    stream_id(text(last(found, 4, b"")))
    return last(found, 2, b"")


def check_record(content):
    found = fields(content)
    check_ids(found, (1, 20))
    addresses = found.get(3, [])
    need(len(addresses) <= 16 and all(1 <= len(a) <= 256 for a in addresses + [last(found, 2, b"")]), "addresses")
    need(0 < last(found, 5, 0) - last(found, 4, 0) <= 24 * 3600 * 1000, "lifetime")
    need(last(found, 6, 0) % 2**32 < 4, "slot")
    return last(found, 1, b"")


def check_owned(found):
    """The owner, by the name of the stream."""
    owner = stream_id(text(last(found, 1, b""))).partition("/")[0]
    need(owner.startswith("0x"), "a stream named after an address")
    need(re.fullmatch(r"[!-~]{1,64}", text(last(found, 2, b""))), "the name of a registry")
    return raw(owner[2:])


def check_stream_record(content):
    found = fields(content)
    owner = check_owned(found)
    need(1 <= last(found, 3, 0) % 2**32 <= 100, "partitions")
    need(last(found, 4, 0) % 2**32 <= 1, "public or not")
    publishers = found.get(6, [])
    need(len(publishers) <= 64 and all(len(p) == 20 for p in publishers), "at most 64 publishers")
    need(len(set(publishers)) == len(publishers), "each publisher once")
    need(last(found, 7, 0) > 0, "versions begin with 1")
    need(0 < last(found, 9, 0) - last(found, 8, 0) <= 366 * 24 * 3600 * 1000, "lifetime")
    revoked = [fields(r) for r in found.get(10, [])]
    need(len(revoked) <= 256, "at most 256 revocations")
    for r in revoked:
        need(len(last(r, 1, b"")) in (0, 20) and last(r, 2, 0) > 0, "a revocation has a serial, and a user or none")
    storage = found.get(11, [])
    need(len(storage) <= 8 and all(len(s) == 20 for s in storage), "at most 8 storage nodes")
    need(len(set(storage)) == len(storage), "each storage node once")
    return owner


def check_grant(content):
    found = fields(content)
    owner = check_owned(found)
    check_ids(found, (3, 20))
    need(last(found, 4, 0) % 2**32 in (1, 2), "publish or subscribe")
    need(5 not in found or 6 not in found or last(found, 5, 0) <= last(found, 6, 0), "not over before it begins")
    need(last(found, 7, 0) > 0, "serials begin with 1")
    return owner


def check_place(parts):
    check_ids(fields(b"".join(parts)), (3, 20), (4, 16))


def check_part(found):
    stream_id(text(last(found, 2, b"")))
    need(last(found, 3, 0) % 2**32 < 100, "partition")


def check_resend_request(content):
    found = fields(content)
    check_ids(found, (1, 16), (4, 20), (5, 20))
    check_part(found)
    proofs = found.get(13, [])
    need(len(proofs) <= 4 and sum(map(len, proofs)) <= 24 * 1024, "at most 4 proofs of 24 KiB together")
    n, start, end = last(found, 7, 0), last(found, 8, 0), last(found, 9, 0)
    publisher, chain = last(found, 11, b""), last(found, 12, b"")
    need(start <= end, "a span does not end before it begins")
    need(n <= 1_000_000 and (n == 0 or (end == 0 and not chain and 10 not in found)), "the last ones, or a span")
    need(len(publisher) in (0, 20) and len(chain) in (0, 16) and (publisher or not chain), "a chain with its publisher")
    if 10 in found:
        check_place(found[10])
    return last(found, 5, b"")


def check_resend_page(content):
    found = fields(content)
    check_ids(found, (1, 16), (4, 20), (5, 20))
    check_part(found)
    messages = found.get(7, [])
    need(len(messages) <= 1000, "at most 1000 messages")
    need(9 not in found or (8 not in found and not messages), "a page that refuses says nothing else")
    if 8 in found:
        check_place(found[8])
    if 9 in found:
        need(last(fields(b"".join(found[9])), 1, 0) % 2**32 != 0, "a refusal has a reason")
    return last(found, 4, b"")


def check_storage_record(content):
    found = fields(content)
    stream_id(text(last(found, 1, b"")))
    check_ids(found, (2, 20))
    addresses = found.get(4, [])
    need(len(addresses) <= 16 and all(1 <= len(a) <= 256 for a in addresses + [last(found, 3, b"")]), "addresses")
    need(0 < last(found, 6, 0) - last(found, 5, 0) <= 24 * 3600 * 1000, "lifetime")
    need(last(found, 7, 0) % 2**32 < 8, "slot")
    return last(found, 2, b"")


def check_audit_head(content):
    found = fields(content)
    check_ids(found, (1, 20), (2, 16), (5, 32), (7, 32))
    need(last(found, 6, 0) < last(found, 4, 0), "the head stands at an entry that is kept")
    return last(found, 1, b"")


CHECKS = {1: check_message, 2: check_request, 3: check_answer, 4: lambda c: check_answer(c, True), 5: check_receipt, 6: check_record,
          7: check_stream_record, 8: check_grant, 9: check_resend_request, 10: check_resend_page, 11: check_storage_record,
          12: check_audit_head}


def read(kind, bytes_):
    """Content, signature and author of an envelope."""
    found = fields(bytes_)
    need(last(found, 1, 0) % 2**32 == 1, "version")
    need(last(found, 2, 0) % 2**32 == kind, "kind")
    content, signature = last(found, 3, b""), last(found, 4, b"")
    need(number(1, 1) + number(2, kind) + data(3, content) + data(4, signature) == bytes_, "not canonical")
    need(len(signature) == 65, "a signature has 65 bytes")
    return content, signature, CHECKS[kind](content)


def verdict(kind, bytes_):
    try:
        content, signature, author = read(kind, bytes_)
    except Refused:
        return "decode"
    try:
        need(signer(signature, kind, content) == author, "signed by another")
    except Refused:
        return "signature"
    return "accept"


# Section 10: frames.

def frame_parts(encoded):
    """Messages and records, as bytes; counted while they are found."""
    parts, at = [], 0
    while at < len(encoded):
        key, at = varint_at(encoded, at)
        length, at = varint_at(encoded, at)
        need(key & 7 == 2 and len(parts) < 1024, "at most 1024 length-delimited parts")
        need(key >> 3 in (1, 2), "messages and records only")
        need(at + length <= len(encoded), "a part is cut short")
        parts.append((key >> 3, encoded[at:at + length]))
        at += length
    return [[part for field, part in parts if field == wanted] for wanted in (1, 2)]


def check_frame(encoded):
    messages, records = frame_parts(encoded)
    for kind, parts in (1, messages), (6, records):
        for part in parts:
            read(kind, part)
    return messages, records


# The files.

SECRETS = r'"(secret|key|current_key|next_key|private_key_pkcs8|transport_secret)": "[0-9a-f]{64,}"'
THROW_AWAY = "THROW-AWAY: every private and secret key in this file was made for it, is public, and must never be used"

def raw(hex_text):
    return bytes.fromhex(hex_text)


def same(name, computed, written):
    computed = computed.hex() if isinstance(computed, bytes) else computed
    if computed != written:
        sys.exit(f"{name}: computed {computed}, written {written}")


def refuses(rule, value):
    try:
        rule(value)
    except Refused:
        return True
    return False


def load(name):
    return json.loads((HERE / name).read_text())


def signature_file():
    file = load("signature.json")
    secret = raw(file["secret"])
    same("address", user_of(secret), file["address"])
    for v in file["cases"]:
        same("tag", "veilcast/1/" + TAGS[v["kind"]], v["tag"])
        same("digest", digest(v["kind"], raw(v["content"])), v["digest"])
        same("signature", sign(secret, v["kind"], raw(v["content"])), v["signature"])
        same("signer", signer(raw(v["signature"]), v["kind"], raw(v["content"])), file["address"])
    for v in file["refused"]:
        try:
            found = signer(raw(v["signature"]), v["kind"], raw(v["content"]))
        except Refused:
            continue
        same(v["why"], found != raw(file["address"]), True)


def payload_file():
    for v in load("payload.json")["cases"]:
        info = payload_info(raw(v["publisher"]), v["stream"], v["key_id"])
        same("info", info, v["info"])
        same("keys", b"".join(derive(raw(v["key"]), info)).hex(), v["enc_key"] + v["mac_key"])
        same("sealed", seal(raw(v["key"]), info, raw(v["header"]), raw(v["iv"]), raw(v["plaintext"])), v["sealed"])


def rotate_file():
    for v in load("rotate_wrap.json")["cases"]:
        info = rotate_context(raw(v["publisher"]), v["stream"], v["current_id"])
        ad = rotate_context(raw(v["publisher"]), v["stream"], v["next_id"])
        same("info", info, v["info"])
        same("ad", ad, v["ad"])
        same("wrapped", seal(raw(v["current_key"]), info, ad, raw(v["iv"]), raw(v["next_key"])), v["wrapped"])


def transport_file():
    file = load("transport.json")
    private = serialization.load_der_private_key(raw(file["private_key_pkcs8"]), None)
    spki = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    same("public key", private.public_key().public_bytes(*spki), file["public_key"])
    info = transport_context(raw(file["publisher"]), file["stream"], raw(file["subscriber"]), raw(file["request_id"]))
    secret = raw(file["transport_secret"])
    same("label", info, file["label"])
    same("keys", b"".join(derive(secret, info)).hex(), file["enc_key"] + file["mac_key"])
    same("encapsulated", oaep(private.public_key(), info, raw(file["oaep_seed"]), secret), file["encapsulated"])
    scheme = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), info)
    same("decapsulated", private.decrypt(raw(file["encapsulated"]), scheme), file["transport_secret"])
    for v in file["cases"]:
        ad = info + context(v["key_id"])
        same("ad", ad, v["ad"])
        same("wrapped", seal(secret, info, ad, raw(v["iv"]), raw(v["key"])), v["wrapped"])


def envelope_file(name, kind):
    file = load(name)
    for v in file["cases"] + file.get("later", []):
        if kind == 1:
            same("header", header(v), v["header"])
        if kind == 1 and v["encryption"]:
            info = payload_info(raw(v["publisher"]), v["stream"], v["key_id"])
            same("payload", seal(raw(v["key"]), info, raw(v["header"]), raw(v["iv"]), raw(v["plaintext"])), v["payload"])
        elif kind == 1:
            same("payload", v["plaintext"], v["payload"])
        if kind == 6:
            tag = b"veilcast/1/publisher-record"
            slot = bytes([v["slot"]]) if v["slot"] else b""
            same("dht key", hashlib.sha256(tag + raw(v["publisher"]) + slot).digest(), v["dht_key"])
        if kind == 7:
            key = hashlib.sha256(b"veilcast/1/stream-record" + v["stream"].encode()).digest()
            same("dht key", key, v["dht_key"])
        if kind == 11:
            tag = b"veilcast/1/storage-record"
            same("dht key", hashlib.sha256(tag + v["stream"].encode() + bytes([v["slot"]])).digest(), v["dht_key"])
            named = hashlib.sha256(tag + v["stream"].encode() + b"\xff" + raw(v["node"])).digest()
            same("dht key of the node", named, v["dht_key_of_node"])
        same("content", ENCODERS[kind](v), v["content"])
        same("envelope", envelope(raw(v["secret"]), kind, raw(v["content"])), v["envelope"])
        same("verdict", verdict(kind, raw(v["envelope"])), "accept")


def frame_file():
    file = load("frame.json")
    for v in file["cases"]:
        same("frame", each(1, map(raw, v["messages"])) + each(2, map(raw, v["records"])), v["frame"])
    for v in file["cases"] + file["joined"]:
        messages, records = check_frame(raw(v["frame"]))
        same("messages", [m.hex() for m in messages], v["messages"])
        same("records", [r.hex() for r in records], v["records"])
    for v in file["refused"]:
        same(v["why"], refuses(check_frame, raw(v["frame"]) * v["times"]), True)


def partition_key_file():
    for v in load("partition_key.json")["cases"]:
        same(v["key"], partition_of_key(v["key"], v["partitions"]), v["partition"])


def reading_file():
    """What a later version wrote, and what a reader of this version makes of it."""
    for v in load("key_answer.json")["later"]:
        read_as = [r["reason"] if r["reason"] <= 8 else 6 for r in v["refused"]]
        if v.get("refusal"):
            read_as = [v["refusal"]["reason"] if v["refusal"]["reason"] <= 8 else 6]
        same(v["name"], read_as, v["read_as"])
    for v in load("message.json")["later"]:
        known = [u for u in v["key_updates"] if u["kind"] == 1]
        same(v["name"], known, v["known_updates"])


def secrets_are_marked():
    for path in sorted(HERE.glob("*.json")):
        written = path.read_text()
        secret = re.search(SECRETS, written)
        same(path.name, json.loads(written).get("private_keys"), THROW_AWAY if secret else None)


def stream_id_file():
    file = load("stream_id.json")
    for v in file["accepted"]:
        same(v, stream_id(v), v)
    for v in file["refused"]:
        same(v["id"], refuses(stream_id, v["id"]), True)
    for v in file["parts"]:
        same(v["part"], list(stream_part(v["part"])), [v["stream"], v["partition"]])
        same(v["part"], "/veilcast/1/" + v["part"], v["topic"])
    for v in file["refused_parts"]:
        same(v["part"], refuses(stream_part, v["part"]), True)


def refused_file():
    for v in load("refused.json")["cases"]:
        same(v["why"], verdict(v["kind"], raw(v["envelope"])), v["refused_by"])


# Section 16: the audit log.

def framed(tag, *parts):
    tag = b"veilcast/1/" + tag
    return hashlib.sha256(bytes([len(tag)]) + tag + b"".join(be(len(p), 8) + p for p in parts)).digest()


def moment(field, value):
    return b"" if value is None else varint(field << 3) + varint(value)


def audit_entry(v):
    refusal = v.get("refusal")
    encoded = refusal and number(1, refusal["reason"]) + number(2, refusal["millis"])
    return (number(1, 1) + number(2, v["sequence"]) + number(3, v["at"]) + number(4, v["what"]) + data(5, v.get("stream", ""))
            + data(6, raw(v.get("user", ""))) + each(7, v.get("keys", [])) + number(8, v.get("count", 0)) + number(9, v.get("by", 0))
            + moment(10, v.get("grant_start")) + moment(11, v.get("grant_end")) + data(12, raw(v.get("public_key", "")))
            + (present(13, encoded) if refusal else b"") + number(14, v.get("times", 0)) + number(15, v.get("since", 0))
            + number(16, v.get("until", 0)))


def audit_log_file():
    file = load("audit_log.json")
    before = framed(b"audit-log", raw(file["publisher"]), raw(file["log"]))
    same("beginning", before, file["beginning"])
    for v in file["entries"]:
        same("content", audit_entry(v), v["content"])
        before = framed(b"audit-entry", before, raw(v["content"]))
        same("hash", before, v["hash"])
    head = fields(read(12, raw(file["head"]))[0])
    same("verdict", verdict(12, raw(file["head"])), "accept")
    same("head", [last(head, 4, 0), last(head, 5, b"").hex()], [len(file["entries"]), before.hex()])


def main():
    files = [signature_file, payload_file, rotate_file, transport_file, frame_file, partition_key_file, stream_id_file, refused_file,
             reading_file, secrets_are_marked, audit_log_file]
    for check in files:
        check()
    kinds = {"message": 1, "key_request": 2, "key_answer": 3, "key_push": 4, "key_receipt": 5, "publisher_record": 6,
             "stream_record": 7, "signed_grant": 8, "resend_request": 9, "resend_page": 10, "storage_record": 11,
             "audit_head": 12}
    for name, kind in kinds.items():
        envelope_file(f"{name}.json", kind)
    print("every vector is what docs/PROTOCOL.md says")


if __name__ == "__main__":
    main()
