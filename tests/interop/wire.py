"""Protobuf by hand, and the messages of sections 7, 10 and 15 of docs/protocol.md."""


class Wrong(Exception):
    """Bytes that are not what the specification asks for."""


def write_varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data, at):
    value = 0
    for count in range(10):
        if at >= len(data):
            raise Wrong("cut within a varint")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value & ((1 << 64) - 1), at
    raise Wrong("varint of more than ten bytes")


def read_fields(data):
    """(number, value) for each field; integers or bytes."""
    at = 0
    while at < len(data):
        key, at = read_varint(data, at)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise Wrong("field number 0")
        if wire == 0:
            value, at = read_varint(data, at)
        elif wire == 2:
            length, at = read_varint(data, at)
            value = data[at : at + length]
            if len(value) != length:
                raise Wrong("cut within a field")
            at += length
        else:
            raise Wrong(f"wire type {wire}")
        yield number, value


def integer(number, value):
    return b"" if value == 0 else write_varint(number << 3) + write_varint(value)


def block(number, value, always=False):
    return b"" if not value and not always else write_varint(number << 3 | 2) + write_varint(len(value)) + value


# A schema: field number to (name, kind). Kinds: int, signed, bytes, text, bool, ids (repeated bytes), or another schema, one or [many].
METADATA = {1: ("parents", "ids"), 2: ("ephemeral", "bool")}
MESSAGE = {6001: ("group_id", "bytes"), 6002: ("timestamp", "signed"), 6003: ("body", "bytes"), 6004: ("metadata", METADATA)}
HELLO = {1: ("store_id", "bytes"), 2: ("serves", "ids"), 3: ("wants", "ids"), 4: ("max_document", "int"), 5: ("window", "int"), 6: ("name", "text"), 7: ("flags", "int"), 8: ("advertising_key", "bytes")}
START = {1: ("transfer", "int"), 2: ("id", "bytes"), 3: ("group_id", "bytes"), 4: ("timestamp", "signed"), 5: ("size", "int"), 6: ("destination", "bytes")}
CHUNK = {1: ("transfer", "int"), 2: ("offset", "int"), 3: ("bytes", "bytes")}
RESUME = {1: ("transfer", "int"), 2: ("committed", "int")}
REFUSAL = {1: ("id", "bytes"), 2: ("reason", "int")}
CONFIRMATION = {1: ("destination", "bytes"), 2: ("signer", "bytes"), 3: ("time", "int"), 4: ("ids", "bytes"), 5: ("verdicts", "bytes"), 6: ("signature", "bytes")}
LINE = {1: ("group_id", "bytes"), 2: ("stored", "int"), 3: ("bytes", "int"), 4: ("already_held", "int"), 5: ("refused", "int"), 6: ("conflicts", "int")}
REPORT = {1: ("collections", [LINE]), 2: ("confirmations", "int")}
AGE = {1: ("id", "bytes"), 2: ("seconds", "int")}
GOODBYE = {1: ("reason", "int"), 2: ("place", "int"), 3: ("again", "int")}
SUCCESSION = {1: ("destination", "bytes"), 2: ("certificate", "bytes"), 3: ("signer", "bytes"), 4: ("time", "int"), 5: ("signature", "bytes")}
SUCCESSIONS = {1: ("successions", [SUCCESSION])}
WAITING = {1: ("bytes", "int")}
WIFI = {1: ("ssid", "bytes"), 2: ("passphrase", "bytes"), 3: ("bssid", "bytes"), 4: ("frequency", "int"), 5: ("address", "bytes"), 6: ("port", "int"), 7: ("token", "bytes"), 8: ("valid", "int")}
PAYLOAD = {
    5001: ("acks", "ids"), 5002: ("offers", "ids"), 5003: ("requests", "ids"), 5004: ("messages", [MESSAGE]), 5100: ("hello", HELLO),
    5101: ("starts", [START]), 5102: ("chunks", [CHUNK]), 5103: ("resumes", [RESUME]), 5104: ("refusals", [REFUSAL]),
    5105: ("confirmations", [CONFIRMATION]), 5106: ("queries", "ids"), 5107: ("report", REPORT), 5108: ("ages", [AGE]), 5109: ("goodbye", GOODBYE),
    5111: ("successions", [SUCCESSION]), 5112: ("waiting", WAITING), 5113: ("wifi", WIFI),
}
HEADER = {1: ("destination", "bytes"), 2: ("record", "bytes"), 3: ("revision", "int"), 4: ("replaces", "ids"), 5: ("parents", "ids"), 6: ("ephemeral", "bool"), 7: ("lifetime", "int"), 8: ("priority", "int")}
DEFAULTS = {"int": 0, "signed": 0, "bytes": b"", "text": "", "bool": False}


def decode(schema, data):
    out = {}
    for name, kind in schema.values():
        out[name] = DEFAULTS[kind] if isinstance(kind, str) and kind in DEFAULTS else [] if kind == "ids" or isinstance(kind, list) else None
    for number, value in read_fields(data):
        if number not in schema:
            continue
        name, kind = schema[number]
        is_number = kind in ("int", "signed", "bool") if isinstance(kind, str) else False
        if is_number != isinstance(value, int):
            raise Wrong(f"{name} has another wire type")
        if kind == "signed":
            out[name] = value - (1 << 64) if value >> 63 else value
        elif kind == "bool":
            out[name] = value != 0
        elif kind == "text":
            out[name] = value.decode()
        elif kind == "ids":
            out[name].append(value)
        elif isinstance(kind, list):
            out[name].append(decode(kind[0], value))
        elif isinstance(kind, dict):
            out[name] = decode(kind, value)
        else:
            out[name] = value
    return out


def encode(schema, fields):
    out = b""
    for number, (name, kind) in sorted(schema.items()):
        value = fields.get(name)
        if value is None:
            continue
        if kind in ("int", "signed", "bool"):
            out += integer(number, int(value))
        elif kind in ("bytes", "text"):
            out += block(number, value.encode() if kind == "text" else value)
        elif kind == "ids":
            out += b"".join(block(number, one, True) for one in value)
        elif isinstance(kind, list):
            out += b"".join(block(number, encode(kind[0], one), True) for one in value)
        else:
            out += block(number, encode(kind, value), True)
    return out
