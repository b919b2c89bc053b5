"""Codes, documents and confirmations (docs/protocol.md, sections 9 to 11, 15 and 20), with gpg for all that is OpenPGP."""

import base64
import datetime
import hashlib
import subprocess
import time
import urllib.parse
from dataclasses import dataclass

from .wire import CONFIRMATION, HEADER, MESSAGE, Wrong, encode

VERDICTS = {
    1: "opened",
    2: "held",
    16: "rejected unknown-collection",
    17: "rejected cannot-open",
    18: "rejected too-large",
    19: "rejected author-revoked",
}


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def message_id(group_id, timestamp, body):
    return sha256(b"MESSAGE_ID", group_id, timestamp.to_bytes(8, "little"), body)


# Codes that people scan


def read_code(text, prefix):
    """`{key: [values]}` of a code."""
    if not text.strip().startswith(prefix):
        raise Wrong(f"no code: {text}")
    found = {}
    for pair in text.strip().removeprefix(prefix).split("&"):
        name, _, value = pair.partition("=")
        found.setdefault(name, []).append(urllib.parse.unquote(value))
    if found.get("v", ["?"])[0] != "1":
        raise Wrong("a code of another version")
    return found


def from_base64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class PairingCode:
    key: bytes
    secret: bytes
    name: str

    @classmethod
    def read(cls, text):
        found = read_code(text, "waypost://pair?")
        return cls(from_base64(found["k"][0]), from_base64(found["s"][0]), found.get("n", [""])[0])

    @property
    def id(self):
        return sha256(b"waypost code id v1", self.secret)[:8]

    @property
    def psk(self):
        return sha256(b"waypost code psk v1", self.secret)


class Destination:
    """A destination as its code names it; `folder` is for gpg's keys."""

    def __init__(self, code, folder):
        found = read_code(code, "waypost://destination?")
        self.fingerprint = bytes.fromhex(found["f"][0])
        self.collection_key = from_base64(found["k"][0]) if "k" in found else sha256(b"waypost well-known collection key v1", self.fingerprint)
        self.collection = found["c"][0]
        self.folder = folder
        folder.mkdir(mode=0o700)
        self.certificate = folder / "certificate.pgp"
        self.certificate.write_bytes(from_base64(found["p"][0]))
        self.gpg("--import", self.certificate)
        if self.fingerprint.hex().upper() not in self.gpg("--with-colons", "--list-keys").decode():
            raise Wrong("the code's certificate has another fingerprint than the code says")

    def gpg(self, *arguments, given=b""):
        command = ["gpg", "--homedir", self.folder, "--batch", "--quiet", "--no-autostart", "--trust-model", "always", *arguments]
        done = subprocess.run([str(part) for part in command], input=given, capture_output=True, check=False)
        if done.returncode:
            raise Wrong(f"gpg {' '.join(map(str, arguments))}: {done.stderr.decode(errors='replace')}")
        return done.stdout

    def group_id(self, collection=None):
        return sha256(b"waypost collection v1", self.fingerprint, self.collection_key, (collection or self.collection).encode())

    def seal(self, name, content):
        """A form as a document."""
        quote = lambda text: urllib.parse.quote(text, safe="-_./").replace("~", "%7E")
        line = f"c={quote(self.collection)}&n={quote(name)}\n".encode()
        arguments = ("--cipher-algo", "AES128", "--compress-algo", "zip", "--set-filename", "")
        sealed = self.gpg(*arguments, "--recipient", self.fingerprint.hex(), "--encrypt", given=line + content)
        header = encode(HEADER, {"destination": self.fingerprint})
        body = b"WP\x01" + len(header).to_bytes(2, "big") + header + sealed
        now = int(time.time())
        return Document(self.group_id(), now - now % 3600, body)

    def verify(self, confirmation):
        """Its verdicts, `{id: words}`; an error where the signature does not hold."""
        text = confirmation_text(confirmation)
        signature, signed = self.folder / "signature", self.folder / "signed"
        signature.write_bytes(confirmation["signature"])
        signed.write_bytes(text.encode())
        said = self.gpg("--status-fd", "1", "--verify", signature, signed).decode()
        [valid] = [line.split()[2:] for line in said.splitlines() if line.startswith("[GNUPG:] VALIDSIG ")]
        # Key, date, seconds, …, and last the primary key.
        if valid[0] != signer_of(confirmation).hex().upper() or valid[-1] != self.fingerprint.hex().upper():
            raise Wrong(f"signed by another: {valid}")
        if int(valid[2]) != confirmation["time"]:
            raise Wrong(f"signed at another time: {valid}")
        return dict(verdicts_of(confirmation))


@dataclass
class Document:
    group_id: bytes
    timestamp: int
    body: bytes

    @property
    def id(self):
        return message_id(self.group_id, self.timestamp, self.body)

    @property
    def message(self):
        return {"group_id": self.group_id, "timestamp": self.timestamp, "body": self.body}

    @property
    def canonical(self):
        return encode(MESSAGE, self.message)


# Confirmations


def signer_of(confirmation):
    return confirmation["signer"] or confirmation["destination"]


def verdicts_of(confirmation):
    ids, verdicts = confirmation["ids"], confirmation["verdicts"]
    each = [ids[at : at + 32] for at in range(0, len(ids), 32)]
    if not 1 <= len(each) <= 256 or len(ids) % 32 or len(verdicts) != len(each) or each != sorted(set(each)):
        raise Wrong("a confirmation of a wrong shape")
    if not set(verdicts) <= set(VERDICTS):
        raise Wrong(f"unknown verdicts: {verdicts.hex()}")
    return [(one, VERDICTS[verdict]) for one, verdict in zip(each, verdicts)]


def confirmation_text(confirmation):
    at = datetime.datetime.fromtimestamp(confirmation["time"], datetime.UTC)
    lines = [
        "Waypost confirmation 1",
        f"Destination: {confirmation['destination'].hex().upper()}",
        f"Signer: {signer_of(confirmation).hex().upper()}",
        f"Time: {at:%Y-%m-%dT%H:%M:%SZ}",
        "",
        *(f"{one.hex()} {words}" for one, words in verdicts_of(confirmation)),
    ]
    return "\n".join(lines) + "\n"


def confirmation_id(confirmation):
    fields = confirmation | {"signer": b"" if signer_of(confirmation) == confirmation["destination"] else confirmation["signer"]}
    group = sha256(b"waypost confirmations v1", confirmation["destination"])
    return message_id(group, confirmation["time"], encode(CONFIRMATION, fields))
