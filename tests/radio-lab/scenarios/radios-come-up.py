"""Four adapters come up; one advertises, and BlueZ on another one and an independent host hear the same bytes."""

import asyncio

from lab import Lab, independent, wait_until

SERVICE = "6b1a0001-7c55-4c9e-9f10-aabbccddeeff"


def run(lab: Lab):
    kiosk, phone = lab.adapter("hci0"), lab.adapter("hci1")
    # BlueZ takes over nothing but the address of who is not discoverable.
    kiosk.advertise({"Discoverable": ("b", True), "ServiceUUIDs": ("as", [SERVICE]), "ServiceData": ("a{sv}", {SERVICE: ("ay", b"\x01\x02\x03")}),
                     "ScanResponseManufacturerData": ("a{qv}", {0xFFFF: ("ay", b"scan response")})})

    phone.scan()
    seen = wait_until("BlueZ on another adapter hears it", lambda: (found := phone.devices().get(kiosk.address, {})).get("UUIDs") and found)
    assert seen["UUIDs"] == [SERVICE], seen
    assert bytes(seen["ServiceData"][SERVICE][1]) == b"\x01\x02\x03", seen

    heard = asyncio.run(independent.listen(lab.independent(), kiosk.address))
    payload, response = lab.capture().advertised(kiosk.index())
    assert (payload, response) == heard, (payload, response, heard)
    assert bytes.fromhex(SERVICE.replace("-", ""))[::-1] in payload, payload.hex()
    [on_air] = lab.radio.advertisements("hci0")
    assert (on_air["data"], on_air["response"]) == (payload.hex(), response.hex()), on_air
    lab.note(f"advertised every {on_air['interval']} ms: {payload.hex()}, scan response {response.hex()}")
