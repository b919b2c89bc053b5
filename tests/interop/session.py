"""Sections 5 and 6 of docs/protocol.md: handshakes and transport frames, from the Noise specification, revision 34."""

import hashlib
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from wire import Wrong

# Messages of each pattern (Noise, sections 7.5 and 9.4), the initiator's first.
MESSAGES = {
    "IK": ["e es s ss", "e ee se"],
    "IKpsk2": ["e es s ss", "e ee se psk"],
    "XX": ["e", "e ee s es", "s se"],
}
REKEY_EVERY = 1 << 16


class CipherState:
    """Noise, section 5.1, with ChaChaPoly."""

    def __init__(self, key):
        self.nonce = 0
        self.set_key(key)

    def set_key(self, key):
        self.aead = ChaCha20Poly1305(key)

    def next_nonce(self):
        nonce = bytes(4) + self.nonce.to_bytes(8, "little")
        self.nonce += 1
        return nonce

    def encrypt(self, plain, data=b""):
        return self.aead.encrypt(self.next_nonce(), plain, data)

    def decrypt(self, sealed, data=b""):
        try:
            return self.aead.decrypt(self.next_nonce(), sealed, data)
        except InvalidTag:
            raise Wrong("a frame does not decrypt") from None

    def rekey_when_due(self):
        if self.nonce % REKEY_EVERY == 0:
            self.set_key(self.aead.encrypt(bytes(4) + bytes([0xFF]) * 8, bytes(32), b"")[:32])


def hkdf(chaining_key, material, count):
    """Noise, section 4.3."""
    secret = hmac.digest(chaining_key, material, "sha256")
    outputs, last = [], b""
    for number in range(1, count + 1):
        last = hmac.digest(secret, last + bytes([number]), "sha256")
        outputs.append(last)
    return outputs


class SymmetricState:
    """Noise, section 5.2, with SHA-256."""

    def __init__(self, name):
        self.hash = name.ljust(32, b"\0") if len(name) <= 32 else hashlib.sha256(name).digest()
        self.chaining_key = self.hash
        self.cipher = None

    def mix_hash(self, data):
        self.hash = hashlib.sha256(self.hash + data).digest()

    def mix_key(self, material):
        self.chaining_key, key = hkdf(self.chaining_key, material, 2)
        self.cipher = CipherState(key)

    def mix_key_and_hash(self, material):
        self.chaining_key, to_hash, key = hkdf(self.chaining_key, material, 3)
        self.mix_hash(to_hash)
        self.cipher = CipherState(key)

    def encrypt_and_hash(self, plain):
        sealed = plain if self.cipher is None else self.cipher.encrypt(plain, self.hash)
        self.mix_hash(sealed)
        return sealed

    def decrypt_and_hash(self, sealed):
        plain = sealed if self.cipher is None else self.cipher.decrypt(sealed, self.hash)
        self.mix_hash(sealed)
        return plain

    def split(self):
        return [CipherState(key) for key in hkdf(self.chaining_key, b"", 2)]


class End:
    """One end of a session: the handshake of Noise, section 5.3, then frames with fragments. Keys are raw bytes."""

    def __init__(self, name, initiator, prologue, static, ephemeral, remote_static=None, psk=None):
        pattern = name.split("_")[1]
        self.initiator, self.psk = initiator, psk
        self.static = X25519PrivateKey.from_private_bytes(static)
        self.ephemeral = X25519PrivateKey.from_private_bytes(ephemeral)
        self.remote_static, self.remote_ephemeral = remote_static, None
        self.messages = [message.split() for message in MESSAGES[pattern]]
        self.has_psk = "psk" in pattern
        self.symmetric = SymmetricState(name.encode())
        self.symmetric.mix_hash(prologue)
        if pattern.startswith("IK"):
            # The responder's key is known beforehand.
            self.symmetric.mix_hash(remote_static if initiator else public(self.static))
        self.outbound = self.inbound = None
        self.fragments = b""

    def mix(self, token):
        """The tokens that are the same for who writes and who reads."""
        if token == "psk":
            return self.symmetric.mix_key_and_hash(self.psk)
        # The first letter is the initiator's key, the second the responder's.
        own, other = token if self.initiator else reversed(token)
        private = self.ephemeral if own == "e" else self.static
        remote = self.remote_ephemeral if other == "e" else self.remote_static
        self.symmetric.mix_key(private.exchange(X25519PublicKey.from_public_bytes(remote)))

    def mix_ephemeral(self, key):
        self.symmetric.mix_hash(key)
        if self.has_psk:
            self.symmetric.mix_key(key)

    def write_message(self, payload):
        out = b""
        for token in self.messages.pop(0):
            if token == "e":
                out += public(self.ephemeral)
                self.mix_ephemeral(public(self.ephemeral))
            elif token == "s":
                out += self.symmetric.encrypt_and_hash(public(self.static))
            else:
                self.mix(token)
        out += self.symmetric.encrypt_and_hash(payload)
        self.finish()
        return out

    def read_message(self, message):
        for token in self.messages.pop(0):
            if token == "e":
                self.remote_ephemeral, message = message[:32], message[32:]
                self.mix_ephemeral(self.remote_ephemeral)
            elif token == "s":
                length = 32 if self.symmetric.cipher is None else 48
                self.remote_static = self.symmetric.decrypt_and_hash(message[:length])
                message = message[length:]
            else:
                self.mix(token)
        payload = self.symmetric.decrypt_and_hash(message)
        self.finish()
        return payload

    def finish(self):
        if not self.messages:
            states = self.symmetric.split()
            self.outbound, self.inbound = states if self.initiator else reversed(states)

    @property
    def sent(self):
        """Transport messages."""
        return self.outbound.nonce

    def seal(self, payload, max_frame):
        useful = max_frame - 17
        parts = [payload[at : at + useful] for at in range(0, len(payload), useful)] or [b""]
        frames = []
        for number, part in enumerate(parts):
            more = number + 1 < len(parts)
            frames.append(self.outbound.encrypt(bytes([more]) + part))
            self.outbound.rekey_when_due()
        return frames

    def unseal(self, frame):
        """A whole payload, or None while more fragments are to come."""
        plain = self.inbound.decrypt(frame)
        self.inbound.rekey_when_due()
        if plain[0] not in (0, 1):
            raise Wrong("first byte")
        self.fragments += plain[1:]
        if plain[0] == 1:
            return None
        payload, self.fragments = self.fragments, b""
        return payload


def public(private):
    return private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
