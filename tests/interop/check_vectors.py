"""Checks tests/versions/ with a second implementation, written from docs/protocol.md alone.

How to run it, from the repository's root:

    python3 tests/interop/check_vectors.py [FOLDER WITH THE VECTORS]

It needs Python 3.10 or later and its package `cryptography` (Debian: python3-cryptography). With gpg on the PATH it
also opens the sealed documents and verifies the confirmation. Exit status 0: everything holds; otherwise the first
thing that does not is named.
"""

import base64
import datetime
import hashlib
import hmac
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import urllib.parse

try:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
except ImportError:
    sys.exit("the Python package `cryptography` is missing; on Debian: apt-get install python3-cryptography")

from remote_log import check_remote_log
from session import End
from wire import CONFIRMATION, HEADER, MESSAGE, PAYLOAD, SUCCESSION, SUCCESSIONS, Wrong, decode, encode

VERSIONS = pathlib.Path(__file__).resolve().parent.parent / "versions"
unhex = bytes.fromhex


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def same(found, expected, what):
    if found != expected:
        raise AssertionError(f"{what}:\n  found    {found!r}\n  expected {expected!r}")


def as_text(value):
    """Decoded fields as the vectors have them: bytes in hexadecimal, empty lists and absent messages left out at the top."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [as_text(one) for one in value]
    if isinstance(value, dict):
        return {name: as_text(one) for name, one in value.items()}
    return value


# Section 9.


def check_id(data, *lengths):
    if len(data) not in lengths:
        raise Wrong(f"{len(data)} bytes, expected {lengths}")
    return data


def document_id(group, timestamp, body):
    return sha256(b"MESSAGE_ID", group, timestamp.to_bytes(8, "little"), body)


def canonical(group, timestamp, body):
    return encode(MESSAGE, {"group_id": group, "timestamp": timestamp, "body": body})


def parse_document(data):
    message = decode(MESSAGE, data)
    check_id(message["group_id"], 32)
    if not 0 <= message["timestamp"] < 1 << 40:
        raise Wrong("timestamp")
    if canonical(message["group_id"], message["timestamp"], message["body"]) != data:
        raise Wrong("not canonical")
    return message


def must_fail(call, vectors, key):
    for vector in vectors:
        try:
            call(unhex(vector[key]))
        except Wrong:
            continue
        raise AssertionError(f"was taken: {vector['why']}")


def check_documents(vectors):
    for vector in vectors["documents"]:
        message = parse_document(unhex(vector["canonical"]))
        same(message["timestamp"], vector["timestamp"], "timestamp")
        same(message["body"], unhex(vector["body"]), "body")
        found = document_id(message["group_id"], message["timestamp"], message["body"])
        same(found.hex(), vector["id"], "document id")
    must_fail(parse_document, vectors["documents_refused"], "bytes")


def confirmations_group(destination):
    return sha256(b"waypost confirmations v1", destination)


def successions_group(destination):
    return sha256(b"waypost successions v1", destination)


def check_collections(vectors):
    for vector in vectors["collections"]:
        destination, key = unhex(vector["destination"]), unhex(vector["collection_key"])
        group = sha256(b"waypost collection v1", destination, key, vector["name"].encode())
        same(group.hex(), vector["group_id"], "group id")
        tag = hmac.new(key, vector["record_key"].encode(), hashlib.sha256).digest()[:16]
        same(tag.hex(), vector["record_tag"], "record tag")
        well_known = sha256(b"waypost well-known collection key v1", destination)
        same(well_known.hex(), vector["well_known_key"], "well-known key")
        same(confirmations_group(destination).hex(), vector["confirmations_group"], "confirmations' group")
        same(successions_group(destination).hex(), vector["successions_group"], "successions' group")


# Section 10.


def parse_envelope(body):
    if len(body) < 5 or body[:2] != b"WP" or body[2] != 1:
        raise Wrong("fixed part")
    length = int.from_bytes(body[3:5], "big")
    if length > 3072 or len(body) < 5 + length:
        raise Wrong("length")
    header = decode(HEADER, body[5 : 5 + length])
    check_id(header["destination"], 20, 32)
    check_id(header["record"], 0, 16)
    for name, most in (("replaces", 16), ("parents", 64)):
        if len(header[name]) > most:
            raise Wrong(name)
        for one in header[name]:
            check_id(one, 32)
    if header["priority"] > 9:
        raise Wrong("priority")
    return header, body[5 + length :]


def check_envelopes(vectors):
    for vector in vectors["envelopes"]:
        header, sealed = parse_envelope(unhex(vector["body"]))
        expected = dict(vector["header"], destination=vector["header"]["destination"].lower())
        same(as_text(header), expected, "envelope header")
        same(sealed.hex(), vector["sealed"], "sealed bytes")
        encoded = encode(HEADER, header)
        rebuilt = b"WP\x01" + len(encoded).to_bytes(2, "big") + encoded + sealed
        same(rebuilt.hex(), vector["body"], "envelope")
    must_fail(parse_envelope, vectors["envelopes_refused"], "body")


# Section 11.


def percent(data, plain):
    out = ""
    for byte in data:
        is_plain = chr(byte).isascii() and (chr(byte).isalnum() or chr(byte) in plain)
        out += chr(byte) if is_plain else f"%{byte:02X}"
    return out


def first_line(label):
    line = "c=" + percent(label["collection"].encode(), "-_./")
    if label["record"] is not None:
        line += "&r=" + percent(label["record"].encode(), "-_./")
    if label["time"] is not None:
        line += f"&t={label['time']}"
    if label["file_name"] is not None:
        line += "&n=" + percent(unhex(label["file_name"]), "-_./")
    return line.encode() + b"\n"


def check_labels(vectors):
    for vector in vectors["labels"]:
        same(first_line(vector), unhex(vector["line"]), "first line of sealed content")


# Section 15.

VERDICTS = {
    1: "opened", 2: "held", 16: "rejected unknown-collection", 17: "rejected cannot-open", 18: "rejected too-large",
    19: "rejected author-revoked",
}


def confirmation_text(fields):
    destination = fields["destination"]
    signer = fields["signer"] or destination
    time = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=fields["time"])
    text = "Waypost confirmation 1\n"
    text += f"Destination: {destination.hex().upper()}\nSigner: {signer.hex().upper()}\nTime: {time:%Y-%m-%dT%H:%M:%SZ}\n\n"
    ids = [fields["ids"][at : at + 32] for at in range(0, len(fields["ids"]), 32)]
    if ids != sorted(set(ids)) or not 1 <= len(ids) <= 256 or len(ids) != len(fields["verdicts"]):
        raise Wrong("ids and verdicts")
    for one, code in zip(ids, fields["verdicts"]):
        text += f"{one.hex()} {VERDICTS[code]}\n"
    return text


def check_confirmation(vector):
    fields = decode(CONFIRMATION, unhex(vector["wire"]))
    same(confirmation_text(fields), vector["text"], "confirmation's text")
    built = {
        "destination": unhex(vector["destination"]),
        "signer": b"" if vector["signer"] == vector["destination"] else unhex(vector["signer"]),
        "time": vector["time"],
        "ids": b"".join(unhex(one) for one, _ in vector["verdicts"]),
        "verdicts": bytes(code for _, code in vector["verdicts"]),
        "signature": unhex(vector["signature"]),
    }
    wire = encode(CONFIRMATION, built)
    same(wire.hex(), vector["wire"], "confirmation on the wire")
    group = confirmations_group(built["destination"])
    same(group.hex(), vector["group_id"], "confirmation's group")
    same(document_id(group, built["time"], wire).hex(), vector["id"], "confirmation's id")


def check_confirmations(vectors):
    same({one["code"]: one["words"] for one in vectors["verdicts"]}, VERDICTS, "verdicts")
    for vector in vectors["confirmations"]:
        check_confirmation(vector)


def check_successions(vectors):
    for vector in vectors["successions"]:
        destination = unhex(vector["destination"])
        built = {"destination": destination, "certificate": unhex(vector["certificate"]), "signer": b"", "time": 0, "signature": b""}
        if vector["signature"] is not None:
            signer = b"" if vector["signer"] == vector["destination"] else unhex(vector["signer"])
            built |= {"signer": signer, "time": vector["time"], "signature": unhex(vector["signature"])}
        wire = encode(SUCCESSION, built)
        same(wire.hex(), vector["wire"], "succession on the wire")
        group = successions_group(destination)
        same(group.hex(), vector["group_id"], "succession's group")
        same(document_id(group, built["time"], wire).hex(), vector["id"], "succession's id")


# Sections 7 to 19.


def describe(payload):
    out = {}
    for name, value in payload.items():
        if value is None or value == []:
            continue
        out[name] = as_text(value)
    for message in out.get("messages", []):
        message.pop("metadata")
        group, body = unhex(message["group_id"]), unhex(message["body"])
        message["id"] = document_id(group, message["timestamp"], body).hex()
    return out


def check_payloads(vectors):
    for vector in vectors["payloads"]:
        data = unhex(vector["bytes"])
        payload = decode(PAYLOAD, data)
        same(describe(payload), vector["fields"], f"payload with {vector['name']}")
        same(encode(PAYLOAD, payload), data, f"encoding of a payload with {vector['name']}")
    for vector in vectors["payloads_with_unknown_fields"]:
        payload = decode(PAYLOAD, unhex(vector["bytes"]))
        same(describe(payload), vector["fields"], f"payload with unknown field {vector['field']}")


NEXT_CONTACT = {4, 9, 10, 11, 12}


def check_codes_of_refusals(vectors):
    names = "destination-not-served collection-not-served too-large over-quota expired deleted malformed not-permitted storage-failed wrong-hash not-proven withdrawn"
    for code, (name, vector) in enumerate(zip(names.split(), vectors["refusals"], strict=True), 1):
        same(vector, {"code": code, "name": name, "temporary": code in NEXT_CONTACT}, "refusal")
    names = "not-paired revoked bad-code busy stopping protocol-error idle moved"
    for code, (name, vector) in enumerate(zip(names.split(), vectors["goodbyes"], strict=True), 1):
        same(vector, {"code": code, "name": name}, "goodbye")


# Section 8, advertising.


def parse_advertisement(data):
    if len(data) != 6 or data[0] >> 4 != 1:
        raise Wrong("advertisement")
    flags = {name: bool(data[0] >> bit & 1) for bit, name in enumerate(("backhaul", "wifi", "room", "gateway"))}
    return flags, data[1:]


def check_advertisements(vectors):
    for vector in vectors["advertisements"]:
        key = hmac.new(unhex(vector["static_private_key"]), b"waypost advertising key v1", hashlib.sha256).digest()[:16]
        same(key.hex(), vector["advertising_key"], "advertising key")
        random = unhex(vector["random"])
        identifier = random + hmac.new(key, b"waypost advertising v1" + random, hashlib.sha256).digest()[:2]
        same(identifier.hex(), vector["identifier"], "identifier")
        flags, found = parse_advertisement(unhex(vector["bytes"]))
        same(found, identifier, "identifier in an advertisement")
        same(flags, {name: vector[name] for name in flags}, "flags of an advertisement")
        first = 1 << 4 | sum(vector[name] << bit for bit, name in enumerate(flags))
        same((bytes([first]) + identifier).hex(), vector["bytes"], "advertisement")
    must_fail(parse_advertisement, vectors["advertisements_refused"], "bytes")


# Section 4.

PATTERNS = {"IK": 1, "IKpsk2": 2, "XX": 3}


def parse_opening(frame):
    if len(frame) < 7 or frame[:4] != b"WPST" or frame[6] not in PATTERNS.values():
        raise Wrong("frame 0")
    if len(frame) != (15 if frame[6] == 2 else 7):
        raise Wrong("length of frame 0")
    return frame[4], frame[5], frame[6], frame[7:]


def check_openings(vectors):
    for vector in vectors["frame_0"]:
        expected = (vector["lowest"], vector["highest"], PATTERNS[vector["pattern"]], unhex(vector["code_id"]))
        same(parse_opening(unhex(vector["bytes"])), expected, "frame 0")
    must_fail(parse_opening, vectors["frame_0_refused"], "bytes")
    for vector in vectors["no_common_version"]:
        expected = b"WPST" + bytes([vector["lowest"], vector["highest"], 0xFF])
        same(unhex(vector["bytes"]), expected, "no common version")


# Section 20.


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def pairs_of(text, prefix):
    if not text.startswith(prefix):
        raise Wrong("prefix")
    pairs = [pair.split("=", 1) for pair in text[len(prefix) :].split("&")]
    return [(key, urllib.parse.unquote(value)) for key, value in pairs]


def check_scanned_codes(vectors):
    value = lambda text: percent(text.encode(), "-_./:[]")
    for vector in vectors["pairing_codes"]:
        secret = unhex(vector["secret"])
        text = f"waypost://pair?v=1&k={base64url(unhex(vector['gateway']))}&s={base64url(secret)}&n={value(vector['name'])}"
        text += "".join("&a=" + value(address) for address in vector["addresses"])
        same(text, vector["text"], "pairing code")
        found = [one for key, one in pairs_of(text, "waypost://pair?") if key == "a"]
        same(found, vector["addresses"], "addresses")
        same(sha256(b"waypost code id v1", secret)[:8].hex(), vector["code_id"], "code id")
        same(sha256(b"waypost code psk v1", secret).hex(), vector["psk"], "pre-shared key")
    for vector in vectors["destination_codes"]:
        found = {}
        for key, one in pairs_of(vector["text"], "waypost://destination?"):
            found.setdefault(key, []).append(one)
        same(found["v"], ["1"], "version")
        same(found["f"], [vector["fingerprint"]], "fingerprint")
        same(found["k"], [base64url(unhex(vector["collection_key"]))], "collection key")
        same(found.get("u", [None])[0], vector["url"], "url")
        same(found.get("c", []), vector["collections"], "collections")
        same(found.get("s", []), vector["successors"], "successors")
        same(found.get("t", [None])[0], vector["token"], "token")
        certificate = vector["certificate"] and base64url(unhex(vector["certificate"]))
        same(found.get("p", [None])[0], certificate, "certificate")


# Sections 5 and 6.


def end_of(vector, initiator, frame_0):
    mine, other = ("initiator", "responder") if initiator else ("responder", "initiator")
    remote = unhex(vector[other + "_public"]) if initiator and not vector["protocol"].startswith("Noise_XX") else None
    return End(
        vector["protocol"], initiator, frame_0, unhex(vector[mine + "_private"]),
        unhex(vector[mine + "_ephemeral_private"]), remote, vector["psk"] and unhex(vector["psk"]),
    )


def check_seed(seed, key):
    stream = Cipher(algorithms.ChaCha20(unhex(seed), bytes(16)), mode=None).encryptor().update(bytes(32))
    same(stream.hex(), key, "ephemeral key of a seed")


def check_handshake(vector):
    name = vector["name"]
    for side in ("initiator", "responder"):
        check_seed(vector[side + "_seed"], vector[side + "_ephemeral_private"])
    frames = [(frame["from"], unhex(frame["frame"])) for frame in vector["frames"]]
    made = []
    frame_0 = frames[0][1]
    _, highest, pattern, _ = parse_opening(frame_0)
    is_xx = pattern == PATTERNS["XX"]
    initiator, responder = end_of(vector, True, frame_0), end_of(vector, False, frame_0)
    hello, answer = unhex(vector["initiator_hello"]), unhex(vector["responder_hello"])
    made.append(("initiator", frame_0))

    def handshake(sender, receiver, side, payload):
        frame = sender.write_message(payload)
        made.append((side, frame))
        same(receiver.read_message(frame), payload, f"{name}: handshake payload")
        return frame

    def transport(sender, receiver, side, payload):
        for frame in sender.seal(payload, 65_535):
            made.append((side, frame))
            received = receiver.unseal(frame)
        same(received, payload, f"{name}: payload")

    handshake(initiator, responder, "initiator", b"" if is_xx else hello)
    is_late = is_xx or len(answer) > 896
    second = handshake(responder, initiator, "responder", bytes([highest]) + (b"" if is_late else answer))
    assert len(second) <= 1024
    if is_xx:
        handshake(initiator, responder, "initiator", hello)
    else:
        transport(initiator, responder, "initiator", b"")
    if is_late:
        transport(responder, initiator, "responder", answer)
    same(made, frames, f"{name}: frames")

    def check_sealed(sealed):
        by_initiator = sealed["from"] == "initiator"
        sender, receiver = (initiator, responder) if by_initiator else (responder, initiator)
        payload = unhex(sealed["payload"])
        found = sender.seal(payload, sealed["max_frame"])
        same([frame.hex() for frame in found], sealed["frames"], f"{name}: sealed payload")
        received = [receiver.unseal(frame) for frame in found]
        same(received, [None] * (len(found) - 1) + [payload], f"{name}: received payload")

    for sealed in vector["payloads"]:
        check_sealed(sealed)
    rekey = vector["rekey"]
    while initiator.sent < rekey["number_of_last"]:
        for frame in initiator.seal(b"", 65_535):
            same(responder.unseal(frame), b"", f"{name}: empty payload")
    check_sealed(rekey["last"])
    check_sealed(rekey["first"])


def check_handshakes(vectors):
    for vector in vectors["handshakes"]:
        check_handshake(vector)


# The file with real OpenPGP.


def check_openpgp(vectors, signed):
    check_confirmation(vectors["confirmation"])
    for vector in [*vectors["documents"], signed]:
        message = parse_document(unhex(vector["document"]))
        found = document_id(message["group_id"], message["timestamp"], message["body"])
        same(found.hex(), vector["id"], "id of a sealed document")
    if shutil.which("gpg") is None:
        return "shapes only, since there is no gpg"
    with tempfile.TemporaryDirectory() as home:
        home = pathlib.Path(home)
        home.chmod(0o700)

        def gpg(*arguments, **options):
            command = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--trust-model", "always", *arguments]
            return subprocess.run(command, check=True, capture_output=True, **options).stdout

        def gpg_status(*arguments, **options):
            command = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--status-fd", "2", *arguments]
            return subprocess.run(command, check=True, capture_output=True, **options).stderr

        gpg("--import", input=vectors["secret_key"].encode())
        _, sealed = parse_envelope(parse_document(unhex(signed["document"]))["body"])
        opened = gpg("--decrypt", input=sealed)
        if b"GOODSIG" not in gpg_status("--decrypt", input=sealed):
            raise Wrong("what is signed inside the seal does not verify")
        line, _, content = opened.partition(b"\n")
        # No signature covers the literal packet's date, so that the line has the time.
        same(line.decode(), f"c={signed['collection']}&t={signed['time']}", "first line of what is signed")
        same(content.hex(), signed["content"], "content of what is signed")
        for vector in vectors["documents"]:
            _, sealed = parse_envelope(parse_document(unhex(vector["document"]))["body"])
            opened = gpg("--decrypt", input=sealed)
            line, _, content = opened.partition(b"\n")
            # The exact time is in the literal packet.
            same(line + b"\n", first_line(dict(vector, time=None)), "first line")
            same(content.hex(), vector["content"], "content")
            if vector["time"] is not None:
                packets = gpg("--list-packets", input=sealed)
                assert f"created {vector['time']},".encode() in packets, packets
        (home / "text").write_bytes(vectors["confirmation"]["text"].encode())
        (home / "signature").write_bytes(unhex(vectors["confirmation"]["signature"]))
        gpg("--verify", str(home / "signature"), str(home / "text"))
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)
    return "opened and verified by gpg"


def check_succession(vector):
    fields = {"destination": 20, "signer": 20, "successor": 20}
    upper = {name: vector[name].upper() for name in fields}
    when = datetime.datetime.fromtimestamp(vector["time"], datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    text = (
        f"Waypost succession 1\nDestination: {upper['destination']}\nSigner: {upper['signer']}\n"
        f"Successor: {upper['successor']}\nTime: {when}\n"
    )
    same(vector["text"], text, "text of a succession")
    first, successor, signature = (
        unhex(vector[name]) for name in ("certificate", "successor_certificate", "signature")
    )
    destination = unhex(vector["destination"])
    made = encode(
        SUCCESSIONS,
        {
            "successions": [
                {"destination": destination, "certificate": first},
                # The signer is the first fingerprint itself.
                {
                    "destination": destination, "certificate": successor,
                    "time": vector["time"], "signature": signature,
                },
            ]
        },
    )
    same(made.hex(), vector["successions"], "encoding of successions")
    if shutil.which("gpg") is None:
        return "shapes only, since there is no gpg"
    with tempfile.TemporaryDirectory() as home:
        home = pathlib.Path(home)
        home.chmod(0o700)
        for name, content in (("keyring", first), ("signature", signature), ("text", text.encode())):
            (home / name).write_bytes(content)
        command = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--trust-model", "always"]
        command += ["--no-default-keyring", "--keyring", str(home / "keyring")]
        subprocess.run([*command, "--verify", str(home / "signature"), str(home / "text")], check=True, capture_output=True)
    return "verified by gpg"


def main(folder):
    vectors = json.loads((folder / "v1.json").read_text())
    checks = [
        check_documents, check_collections, check_envelopes, check_labels, check_confirmations, check_successions, check_payloads,
        check_codes_of_refusals, check_advertisements, check_openings, check_scanned_codes, check_handshakes,
    ]
    for check in checks:
        check(vectors)
        print(f"{check.__name__.removeprefix('check_').replace('_', ' ')}: as specified")
    logs = folder / "v1-remote-log.json"
    if logs.exists():
        check_remote_log(json.loads(logs.read_text()))
        print("remote log: as specified")
    sealed, signed = (json.loads((folder / name).read_text()) for name in ("v1-openpgp.json", "v1-signed.json"))
    print("openpgp:", check_openpgp(sealed, signed))
    print("succession:", check_succession(json.loads((folder / "v1-succession.json").read_text())))


if __name__ == "__main__":
    try:
        main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else VERSIONS)
    except (AssertionError, Wrong) as problem:
        sys.exit(f"not as specified: {problem}")
