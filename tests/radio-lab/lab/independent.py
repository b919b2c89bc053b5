"""An independent Bluetooth host: bumble's, on a controller that BlueZ does not have (`lab.independent()`).

`async with device(path) as host:` gives a `bumble.device.Device`, powered on, for GATT, L2CAP and pairing as bumble
documents them. It lives in the scenario's process and reaches its controller over a Unix socket, as any HCI host."""

import asyncio
import contextlib

from bumble import hci
from bumble.device import Device, DeviceConfiguration
from bumble.host import Host
from bumble.transport import open_transport


@contextlib.asynccontextmanager
async def device(path, name="independent", address="C7:00:00:00:00:01"):
    """`address` is its random static address, with which it advertises and connects."""
    async with await open_transport(f"unix:{path}") as transport:
        host = Device(
            config=DeviceConfiguration(name=name, address=hci.Address(address)),
            host=Host(transport.source, transport.sink),
        )
        await host.power_on()
        yield host
        await host.power_off()


async def listen(path, address, seconds=10):
    """The advertising data and scan response of this advertiser, as a scanning host is told them."""
    async with device(path) as host:
        found = {}
        both = asyncio.Event()

        def on_report(report):
            for part in report.reports:
                if str(part.address).startswith(address):
                    found[bool(part.event_type & 8)] = bytes(part.data)
                    if len(found) == 2:
                        both.set()

        # Below the device, which joins both into one advertisement.
        stock = host.host.on_hci_le_extended_advertising_report_event
        host.host.on_hci_le_extended_advertising_report_event = lambda event: (on_report(event), stock(event))
        await host.start_scanning(active=True, filter_duplicates=False)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(both.wait(), seconds)
        return found.get(False, b""), found.get(True, b"")
