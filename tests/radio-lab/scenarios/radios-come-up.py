"""Four adapters come up; one advertises, and BlueZ on another one and an independent host hear the same bytes."""

import asyncio

from lab import Lab, independent, wait_until

SERVICE = "6b1a0001-7c55-4c9e-9f10-aabbccddeeff"

CAPTURE = True


def run(lab: Lab):
    kiosk, phone = lab.adapter("hci0"), lab.adapter("hci1")
    # Discoverable, as BlueZ else takes over nothing but the address; 31 bytes in each of the two, as BlueZ else changes over
    # to extended advertisements, which older phones do not hear, and sends no scan response.
    kiosk.advertise(
        {
            "Discoverable": ("b", True),
            "ServiceUUIDs": ("as", [SERVICE]),
            "ScanResponseServiceData": ("a{sv}", {SERVICE: ("ay", b"\x01\x02\x03")}),
        }
    )

    phone.scan()
    seen = wait_until(
        "BlueZ on another adapter hears it",
        lambda: (found := phone.devices().get(kiosk.address, {})).get("ServiceData") and found,
    )
    assert seen["UUIDs"] == [SERVICE], seen
    assert bytes(seen["ServiceData"][SERVICE][1]) == b"\x01\x02\x03", seen

    heard = asyncio.run(independent.listen(lab.independent(), kiosk.address))
    payload, response = lab.capture().advertised(kiosk.index())
    assert (payload, response) == heard, (payload, response, heard)
    service = bytes.fromhex(SERVICE.replace("-", ""))[::-1]
    assert service in payload and response.endswith(service + b"\x01\x02\x03"), (payload.hex(), response.hex())
    [on_air] = lab.radio.advertisements("hci0")
    assert (on_air["data"], on_air["response"]) == (payload.hex(), response.hex()), on_air
    lab.note(f"advertised every {on_air['interval']} ms: {payload.hex()}, scan response {response.hex()}")
