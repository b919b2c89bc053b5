"""Remote logs (docs/remote-log.md): pages, heads, chains, the signing key."""

import hashlib
import hmac

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from wire import MESSAGE, Wrong, decode, encode

PAIR = {
    1: ("remote_hash", "bytes"), 2: ("local_hash", "bytes"), 3: ("data", "bytes"), 5100: ("size", "int"),
    5101: ("group", "int"),
}
BELOW = {1: ("count", "int"), 2: ("chain", "bytes")}
SIGNED = {
    1: ("key", "bytes"), 2: ("log", "bytes"), 3: ("sequence", "int"), 4: ("count", "int"), 5: ("chain", "bytes"),
    6: ("bookmark", "bytes"), 7: ("signature", "bytes"),
}
REMOTE_LOG = {
    1: ("pair", [PAIR]), 2: ("tail", "bytes"), 5100: ("below", BELOW), 5101: ("groups", "ids"), 5102: ("head", SIGNED),
    5103: ("key", "bytes"),
}
EMPTY = bytes(32)
unhex = bytes.fromhex


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def same(found, expected, what):
    if found != expected:
        raise AssertionError(f"{what}:\n  found    {found!r}\n  expected {expected!r}")


def document_id(data):
    message = decode(MESSAGE, data)
    time = message["timestamp"].to_bytes(8, "little")
    return sha256(b"MESSAGE_ID", message["group_id"], time, message["body"])


def check_page(vector, key):
    data = unhex(vector["bytes"])
    same(sha256(data).hex(), vector["hash"], "hash of a page")
    page = decode(REMOTE_LOG, data)
    same(encode(REMOTE_LOG, page), data, "a page encoded again")
    same(page["key"].hex(), key, "log key of a page")
    below = page["below"] or {"count": 0, "chain": EMPTY}
    same((below["count"], below["chain"].hex()), (vector["below"], vector["chain_below"]), "what is below a page")
    same(page["tail"].hex() or None, vector["next_page"], "next page")
    chain = below["chain"]
    found = []
    for pair in reversed(page["pair"]):
        chain = sha256(b"waypost log chain v1", chain, pair["local_hash"])
        if pair["data"]:
            same(document_id(pair["data"]), pair["local_hash"], "id of a document in a page")
        found.append({
            "id": pair["local_hash"].hex(),
            "group_id": page["groups"][pair["group"]].hex(),
            "size": pair["size"] or len(pair["data"]),
            "content": pair["data"].hex(),
            "remote_hash": pair["remote_hash"].hex() or None,
        })
    same(found, vector["oldest_first"], "documents of a page")
    same(chain.hex(), vector["chain"], "chain of a page")


def check_head(vector, private):
    remote = decode(REMOTE_LOG, unhex(vector["bytes"]))
    head = remote["head"]
    if head is None or remote["pair"]:
        raise Wrong("a head has a signature and no pairs")
    found = {name: head[name].hex() for name in ("key", "log", "chain", "bookmark")}
    found |= {"sequence": head["sequence"], "count": head["count"], "root": remote["tail"].hex()}
    same(found, {name: value for name, value in vector.items() if name != "bytes"}, "a head")
    signed = b"".join((
        b"waypost log head v1", head["key"], head["log"], head["sequence"].to_bytes(8, "big"),
        head["count"].to_bytes(8, "big"), head["chain"], remote["tail"], head["bookmark"],
    ))
    try:
        Ed25519PublicKey.from_public_bytes(head["key"]).verify(head["signature"], signed)
    except InvalidSignature:
        raise AssertionError("the signature of a head does not verify") from None
    same(private.sign(signed).hex(), head["signature"].hex(), "signature of a head")


def check_remote_log(vectors):
    seed = hmac.new(unhex(vectors["identity"]), b"waypost log key v1", hashlib.sha256).digest()
    private = Ed25519PrivateKey.from_private_bytes(seed)
    raw = serialization.Encoding.Raw, serialization.PublicFormat.Raw
    same(private.public_key().public_bytes(*raw).hex(), vectors["log_key"], "log key")
    for vector in vectors["pages"]:
        check_page(vector, vectors["log_key"])
    for vector in vectors["heads"]:
        check_head(vector, private)
