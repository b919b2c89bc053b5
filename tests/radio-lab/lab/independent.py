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


class Heard:
    """The last bytes of one advertiser, by kind of packet; empty what has not come. Section 8 of the specification reads them."""

    legacy = extended = response = b""


@contextlib.asynccontextmanager
async def hearing(host, address):
    """A `Heard` that is kept up to date while this host scans."""
    heard = Heard()

    def on_report(report):
        for part in report.reports:
            if str(part.address).startswith(address):
                kind = "response" if part.event_type & 8 else "legacy" if part.event_type & 16 else "extended"
                setattr(heard, kind, bytes(part.data))

    # Below the device, which joins them into one advertisement.
    stock = host.host.on_hci_le_extended_advertising_report_event
    host.host.on_hci_le_extended_advertising_report_event = lambda event: (on_report(event), stock(event))
    await host.start_scanning(active=True, filter_duplicates=False)
    yield heard
    await host.stop_scanning()
    host.host.on_hci_le_extended_advertising_report_event = stock


async def wait_until(what, found, seconds=20):
    """As `lab.wait_until`, while the host goes on."""
    until = asyncio.get_running_loop().time() + seconds
    while not (answer := found()):
        if asyncio.get_running_loop().time() > until:
            raise AssertionError(f"still waiting after {seconds} s until {what}")
        await asyncio.sleep(0.05)
    return answer


async def listen(path, address, seconds=10):
    """The advertising data and scan response of this advertiser, as a scanning host is told them."""
    async with device(path) as host, hearing(host, address) as heard:
        with contextlib.suppress(AssertionError):
            await wait_until("both are heard", lambda: heard.legacy and heard.response, seconds)
        return heard.legacy, heard.response
