"""Bodies of the API's own media types: what the test has put into the folder's files, whole, cut, changed, and anything."""

import pathlib

import schemathesis
from hypothesis import strategies as st

BODIES = [path.read_bytes() for path in sorted(pathlib.Path("bodies").iterdir())]


@st.composite
def damaged(draw):
    body = bytearray(draw(st.sampled_from(BODIES)))
    at = draw(st.integers(0, len(body) - 1))
    if draw(st.booleans()):
        return bytes(body[:at])
    body[at] ^= draw(st.integers(1, 255))
    return bytes(body)


anything = st.one_of(st.sampled_from(BODIES), damaged(), st.binary(max_size=2_000))
for name in [
    "application/vnd.waypost.document",
    "application/vnd.waypost.documents",
    "application/vnd.waypost.ids",
    "application/offset+octet-stream",
    "application/octet-stream",
    "application/x-protobuf",
]:
    schemathesis.openapi.media_type(name, anything)
