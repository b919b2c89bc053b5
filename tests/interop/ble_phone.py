"""A phone that shares no code with the product: its sessions (docs/protocol.md, sections 4 to 8, 12, 15 and 18).

It is written from the specification alone, on bumble's host (`ble_links`), gpg (`sealed`) and a library's Noise, as the phones
of others will be. The radio lab's scenarios `ble-independent-phone` and others drive it."""

import asyncio
import os

from noise.connection import Keypair, NoiseConnection

from .ble_links import USEFUL
from .sealed import Destination, PairingCode, confirmation_id, message_id, sha256
from .wire import PAYLOAD, SUCCESSION, Wrong, decode, encode

MAGIC = b"WPST"
IK, IKPSK2 = 1, 2
NAMES = {IK: b"Noise_IK_25519_ChaChaPoly_SHA256", IKPSK2: b"Noise_IKpsk2_25519_ChaChaPoly_SHA256"}
FRAGMENT = USEFUL - 16 - 1
COLLECTION_NOT_SERVED = 2


class NoCommonVersion(Exception):
    """The responder's clear answer: `answer` is its frame, `lowest` and `highest` what it speaks."""

    def __init__(self, answer):
        super().__init__(f"the other speaks versions {answer[4]} to {answer[5]}")
        self.answer, self.lowest, self.highest = answer, answer[4], answer[5]


class Goodbye(Exception):
    """The other has said goodbye: its reason, and place and again where others wait."""


class Phone:
    """Its keys, what it has to deliver, and what it has heard of that."""

    def __init__(self, destination_code, folder, versions=(1, 1)):
        self.versions = versions
        self.static = os.urandom(32)
        self.store_id = os.urandom(16)
        folder.mkdir()
        self.destination = Destination(destination_code, folder / "gnupg")
        self.documents = {}
        self.verdicts = {}

    def write(self, name, content):
        """Seals a form, to be deposited in the next session."""
        document = self.destination.seal(name, content)
        self.documents[document.id] = document
        return document.id

    @property
    def hello(self):
        return {"store_id": self.store_id, "max_document": 0, "window": 65536}

    async def pair(self, link, code_text):
        """A session with the gateway whose code was shown."""
        code = PairingCode.read(code_text)
        return await Session.open(self, link, code.key, code)

    async def meet(self, link, gateway_key):
        """A session with a gateway that it has paired with."""
        return await Session.open(self, link, gateway_key)


class Session:
    """The initiator's side. `peer` is the responder's hello."""

    @classmethod
    async def open(cls, phone, link, gateway_key, code=None):
        self = cls()
        self.phone, self.link, self.gateway_key = phone, link, gateway_key
        pattern = IKPSK2 if code else IK
        frame_0 = MAGIC + bytes([*phone.versions, pattern]) + (code.id if code else b"")
        self.noise = NoiseConnection.from_name(NAMES[pattern])
        self.noise.set_as_initiator()
        self.noise.set_prologue(frame_0)
        self.noise.set_keypair_from_private_bytes(Keypair.STATIC, phone.static)
        self.noise.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, gateway_key)
        if code:
            self.noise.set_psks(code.psk)
        self.noise.start_handshake()
        hello = encode(PAYLOAD, {"hello": phone.hello})
        await link.write_frames(frame_0, bytes(self.noise.write_message(hello)))
        answer = await link.read_frame()
        if answer is None:
            raise Wrong("the gateway closed the link instead of answering the handshake")
        if len(answer) == 7 and answer[:4] == MAGIC and answer[6] == 0xFF:
            raise NoCommonVersion(answer)
        answer = bytes(self.noise.read_message(answer))
        if not answer or not phone.versions[0] <= answer[0] <= phone.versions[1]:
            raise Wrong(f"the gateway chose another version: {answer[:1].hex()}")
        await self.send({})
        first = decode(PAYLOAD, answer[1:]) if len(answer) > 1 else await self.receive()
        if first and first["goodbye"]:
            raise Goodbye(first["goodbye"])
        self.peer = first and first["hello"]
        if not self.peer or len(self.peer["store_id"]) != 16:
            raise Wrong("the gateway's first payload is no hello")
        self.received, self.confirmations = {}, 0
        return self

    # Payloads

    async def send(self, fields):
        payload = encode(PAYLOAD, fields)
        pieces = [payload[at : at + FRAGMENT] for at in range(0, len(payload), FRAGMENT)] or [b""]
        for piece in pieces[:-1]:
            await self.link.write_frames(self.noise.encrypt(b"\x01" + piece))
        await self.link.write_frames(self.noise.encrypt(b"\x00" + pieces[-1]))

    async def receive(self, seconds=60):
        """The next payload that is not empty; nothing where the link has closed."""
        payload = b""
        while True:
            frame = await self.link.read_frame(seconds)
            if frame is None:
                return None
            plain = bytes(self.noise.decrypt(frame))
            if plain[:1] not in (b"\x00", b"\x01"):
                raise Wrong(f"a transport frame that begins with {plain[:1].hex()}")
            payload += plain[1:]
            if len(payload) > 65536:
                raise Wrong("a payload of more than 65,536 bytes")
            if plain[0] == 0 and payload:
                return decode(PAYLOAD, payload)

    # A contact

    async def deliver(self, seconds=60):
        """Deposits what has no verdict yet, waits for the verdicts, reports, and closes; answers the gateway's report."""
        phone = self.phone
        waiting = {one: document for one, document in phone.documents.items() if one not in phone.verdicts}
        if phone.destination.fingerprint not in self.peer["serves"]:
            raise Wrong("the gateway does not serve this destination")
        self.acknowledged, self.refused = set(), {}
        for document in waiting.values():
            await self.send({"messages": [document.message]})
        reported = False
        async with asyncio.timeout(seconds):
            while True:
                is_done = all(one in phone.verdicts or one in self.refused for one in waiting)
                if is_done and not reported:
                    await self.send({"report": {"confirmations": self.confirmations, "collections": []}})
                    reported = True
                payload = await self.receive(seconds)
                if payload is None:
                    raise Wrong("the link has ended before the session has finished")
                if payload["goodbye"]:
                    raise Goodbye(payload["goodbye"])
                if payload["report"] is not None and reported:
                    await self.link.close()
                    return payload["report"]
                reported = reported and payload["report"] is not None
                await self.answer(payload)

    async def answer(self, payload):
        """Whatever the gateway sends gets its answer."""
        self.acknowledged.update(payload["acks"])
        self.refused |= {one["id"]: one["reason"] for one in payload["refusals"]}
        acks, messages, refusals = [], [], []
        for succession in payload["successions"]:
            acks.append(succession_id(succession))
        for confirmation in payload["confirmations"]:
            verdicts = await asyncio.to_thread(self.phone.destination.verify, confirmation)
            self.phone.verdicts |= verdicts
            self.confirmations += 1
            acks.append(confirmation_id(confirmation))
        messages += [self.phone.documents[one].message for one in payload["requests"] if one in self.phone.documents]
        unwanted = [*payload["offers"], *(one["id"] for one in payload["starts"])]
        unwanted += [message_id(one["group_id"], one["timestamp"], one["body"]) for one in payload["messages"]]
        refusals += [{"id": one, "reason": COLLECTION_NOT_SERVED} for one in unwanted]
        if acks or messages or refusals:
            await self.send({"acks": acks, "messages": messages, "refusals": refusals})


def succession_id(succession):
    fields = dict(succession)
    if fields["signer"] == fields["destination"] or not fields["signature"]:
        fields["signer"] = b""
    if not fields["signature"]:
        fields["time"] = 0
    group = sha256(b"waypost successions v1", succession["destination"])
    return message_id(group, fields["time"], encode(SUCCESSION, fields))
