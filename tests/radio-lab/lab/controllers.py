"""Bluetooth LE controllers for real hosts: bumble's, with what it lacks for that.

What bumble 0.0.236 does otherwise, and BlueZ or a test stumbles over:

- Links are found by addresses, of which the sender's is always its random one: data is dropped with public addresses.
  Here each end of a link knows the other.
- Two initiators win one advertisement; both believe to be connected.
- Scan responses are not sent; every advertisement is reported as connectable, in its advertiser's milliseconds for units
  of 0.625 ms; a set that is enabled twice is sent twice as often.
- Filters (accept lists, duplicates, passive scans) are ignored.
- Connection parameters are not told to the peripheral; links end at once or never, not after their supervision timeout.
- Cancelling a connection request, HCI_Reset and commands that it doesn't know do nothing, or are never answered.
- Data goes in packets of 27 bytes.
"""

import asyncio
import random
import struct

from bumble import controller as stock
from bumble import hci

EVENT = hci.HCI_LE_Extended_Advertising_Report_Event.EventType
CONNECTABLE, SCANNABLE, SCAN_RESPONSE, LEGACY = (
    EVENT.CONNECTABLE_ADVERTISING,
    EVENT.SCANNABLE_ADVERTISING,
    EVENT.SCAN_RESPONSE,
    EVENT.LEGACY_ADVERTISING_PDU_USED,
)
LOST = hci.HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR
DONE = hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.SUCCESS)
NO_ADDRESS = hci.Address("00:00:00:00:00:00")
EXTENDED = hci.LeFeatureMask.LE_EXTENDED_ADVERTISING | hci.LeFeatureMask.LE_PERIODIC_ADVERTISING
# What the controllers say of themselves and do not do.
UNDONE = hci.LeFeatureMask.LL_PRIVACY | hci.LeFeatureMask.LE_CODED_PHY


class Controller(stock.Controller):
    """A controller in the air, with at most one host at its plug."""

    le_acl_data_packet_length = 1020
    total_num_le_acl_data_packets = 16
    supported_max_tx_octets = supported_max_rx_octets = suggested_max_tx_octets = 251
    filter_accept_list_size = 32

    def __init__(self, name, air, address, legacy=False):
        super().__init__(name, link=air, public_address=address)
        self.air = air
        self.le_legacy_advertiser = LegacyBeacon(self)
        self.set_legacy(legacy)
        self.hung = False
        self.forget()

    def set_legacy(self, legacy):
        """Whether it is one from before Bluetooth 5, without extended advertising. Hosts ask when it is plugged in."""
        features = type(self).le_features & ~UNDONE
        self.le_features = features & ~EXTENDED if legacy else features

    def forget(self):
        """Everything that HCI_Reset sets back."""
        for link in list(self.le_connections.values()):
            link.end()
        self.le_connections.clear()
        self.le_legacy_advertiser.stop()
        for beacon in self.advertising_sets.values():
            beacon.stop()
        self.advertising_sets.clear()
        self.le_scan_enable = False
        self.pending_le_connection = None
        self.random_address = NO_ADDRESS
        self.le_event_mask = 0
        self.accepted = set()
        self.heard = set()
        self.hung = False

    def beacons(self):
        return [one for one in (self.le_legacy_advertiser, *self.advertising_sets.values()) if one.enabled]

    # What the host sends

    def on_packet(self, packet):
        if self.hung and packet[:3] != struct.pack("<BH", 1, hci.HCI_RESET_COMMAND):
            return
        if packet[0] == hci.HCI_ACL_DATA_PACKET:
            (handle,) = struct.unpack_from("<H", packet, 1)
            if link := self.find_le_connection_by_handle(handle & 0xFFF):
                link.send_data(handle >> 12 & 3, packet[5:])
        else:
            super().on_packet(packet)

    def on_hci_command_packet(self, command):
        if hasattr(self, f"on_{command.name.lower()}"):
            super().on_hci_command_packet(command)
        else:
            self._send_hci_command_status(hci.HCI_ErrorCode.UNKNOWN_HCI_COMMAND_ERROR, command.op_code)

    def on_hci_reset_command(self, _command):
        self.forget()
        return DONE

    # Advertising

    def on_hci_le_set_extended_advertising_enable_command(self, command):
        answer = super().on_hci_le_set_extended_advertising_enable_command(command)
        for handle, duration in zip(command.advertising_handles, command.durations):
            if command.enable and duration and handle in self.advertising_sets:
                self.advertising_sets[handle].stop_after(duration / 100)
        return answer

    def on_hci_le_read_number_of_supported_advertising_sets_command(self, command):
        answer = super().on_hci_le_read_number_of_supported_advertising_sets_command(command)
        # As small controllers have; bumble's hundreds would hide sets that a host forgets.
        answer.num_supported_advertising_sets = 4
        return answer

    # Scanning

    def on_hci_le_set_extended_scan_parameters_command(self, command):
        self.le_scan_type = max(command.scan_types)
        return super().on_hci_le_set_extended_scan_parameters_command(command)

    def on_hci_le_set_scan_enable_command(self, command):
        self.heard.clear()
        return super().on_hci_le_set_scan_enable_command(command)

    def on_hci_le_set_extended_scan_enable_command(self, command):
        self.heard.clear()
        return super().on_hci_le_set_extended_scan_enable_command(command)

    def on_hci_le_clear_filter_accept_list_command(self, _command):
        self.accepted.clear()
        return DONE

    def on_hci_le_add_device_to_filter_accept_list_command(self, command):
        self.accepted.add(key(command.address))
        return DONE

    def on_hci_le_remove_device_from_filter_accept_list_command(self, command):
        self.accepted.discard(key(command.address))
        return DONE

    def hear(self, beacon):
        """An advertisement of another controller arrives."""
        if self.le_scan_enable and (not self.le_scanning_filter_policy & 1 or key(beacon.address) in self.accepted):
            self.report(beacon, beacon.properties, beacon.payload)
            if beacon.properties & SCANNABLE and self.le_scan_type == 1:
                self.report(beacon, beacon.properties | SCAN_RESPONSE, beacon.response)
        wanted = self.pending_le_connection
        if wanted and beacon.properties & CONNECTABLE:
            if (
                key(beacon.address) in self.accepted
                if wanted.initiator_filter_policy & 1
                else beacon.address == wanted.peer_address
            ):
                self.connect(beacon, wanted)

    def report(self, beacon, properties, data):
        if self.filter_duplicates:
            new = (key(beacon.address), properties, data)
            if new in self.heard:
                return
            self.heard.add(new)
        if not self.le_features & hci.LeFeatureMask.LE_EXTENDED_ADVERTISING:
            # Old controllers do not hear the new advertisements.
            if properties & LEGACY:
                self.report_legacy(beacon, properties, data)
            return
        event = hci.HCI_LE_Extended_Advertising_Report_Event
        # An event holds 229 bytes of one.
        parts = [data[at : at + 229] for at in range(0, len(data), 229)] or [b""]
        for number, part in enumerate(parts):
            more = event.DATA_INCOMPLETE_MORE_TO_COME << 5 if number + 1 < len(parts) else 0
            self.send_hci_packet(
                event(
                    [
                        event.Report(
                            event_type=properties | more,
                            address_type=beacon.address.address_type,
                            address=beacon.address,
                            primary_phy=1,
                            secondary_phy=0 if properties & LEGACY else 1,
                            advertising_sid=beacon.sid,
                            tx_power=event.TX_POWER_INFORMATION_NOT_AVAILABLE,
                            rssi=-50,
                            periodic_advertising_interval=0,
                            direct_address_type=0,
                            direct_address=hci.Address.ANY,
                            data=part,
                        )
                    ]
                )
            )

    def report_legacy(self, beacon, properties, data):
        event = hci.HCI_LE_Advertising_Report_Event
        kind = hci.HCI_LE_Extended_Advertising_Report_Event.LEGACY_PDU_TYPE_MAP[properties & 0xF]
        self.send_hci_packet(
            event(
                [
                    event.Report(
                        event_type=kind,
                        address_type=beacon.address.address_type,
                        address=beacon.address,
                        data=data,
                        rssi=-50,
                    )
                ]
            )
        )

    # Links

    def connect(self, beacon, wanted):
        """The advertisement is one that the host waits for: both get their end of a link, or none does."""
        own = self.public_address if wanted.own_address_type in (0, 2) else self.random_address
        peer = beacon.controller
        if own in peer.le_connections or beacon.address in self.le_connections:
            # One of them has not noticed yet that their last link is lost.
            return
        self.pending_le_connection = None
        if isinstance(wanted, hci.HCI_LE_Extended_Create_Connection_Command):
            parameters = wanted.connection_interval_maxs[0], wanted.max_latencies[0], wanted.supervision_timeouts[0]
        else:
            parameters = wanted.connection_interval_max, wanted.max_latency, wanted.supervision_timeout
        near = Link.add(self, hci.Role.CENTRAL, own, beacon.address, parameters)
        far = Link.add(peer, hci.Role.PERIPHERAL, beacon.address, own, parameters)
        near.far, far.far = far, near
        self.tell_connected(near)
        peer.tell_connected(far)
        beacon.connected(far)

    def tell_connected(self, link, status=hci.HCI_ErrorCode.SUCCESS):
        common = {
            "status": status,
            "connection_handle": link.handle,
            "role": link.role,
            "peer_address_type": link.peer_address.address_type,
            "peer_address": link.peer_address,
            "connection_interval": link.interval,
            "peripheral_latency": link.latency,
            "supervision_timeout": link.timeout,
            "central_clock_accuracy": 0,
        }
        if self.le_event_mask & 1 << 9:
            self.send_hci_packet(
                hci.HCI_LE_Enhanced_Connection_Complete_Event(
                    local_resolvable_private_address=NO_ADDRESS, peer_resolvable_private_address=NO_ADDRESS, **common
                )
            )
        else:
            self.send_hci_packet(hci.HCI_LE_Connection_Complete_Event(**common))

    def on_hci_le_create_connection_cancel_command(self, _command):
        wanted, self.pending_le_connection = self.pending_le_connection, None
        if not wanted:
            return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.COMMAND_DISALLOWED_ERROR)
        none = Link(self, 0, hci.Role.CENTRAL, NO_ADDRESS, wanted.peer_address, self.air, hci.PhysicalTransport.LE, 0)
        asyncio.get_running_loop().call_soon(
            self.tell_connected, none, hci.HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR
        )
        return DONE

    def on_hci_le_connection_update_command(self, command):
        super().on_hci_le_connection_update_command(command)
        if link := self.find_le_connection_by_handle(command.connection_handle):
            for end in (link, link.far):
                if end:
                    end.interval, end.latency, end.timeout = (
                        command.connection_interval_max,
                        command.max_latency,
                        command.supervision_timeout,
                    )

    def on_le_disconnected(self, connection, reason):
        super().on_le_disconnected(connection, reason)
        connection.end()


class Link(stock.Connection):
    """One end of a link."""

    far = None
    # In units of 1.25 ms, events, 10 ms.
    interval, latency, timeout = 24, 0, 42
    expiry = None

    def __post_init__(self):
        super().__post_init__()
        self.held = []

    @classmethod
    def add(cls, controller, role, own, peer, parameters):
        link = cls(
            controller,
            controller.allocate_connection_handle(),
            role,
            own,
            peer,
            controller.air,
            hci.PhysicalTransport.LE,
            hci.HCI_Connection_Complete_Event.LinkType.ACL,
        )
        link.interval, link.latency, link.timeout = parameters
        controller.le_connections[peer] = link
        return link

    def alive(self):
        return self.controller.le_connections.get(self.peer_address) is self

    def send_data(self, boundary, data):
        self.carry(lambda far: far.take_data(boundary, data, self), len(data))

    def take_data(self, boundary, data, sender):
        # A first fragment is "not flushable" towards a controller, and plain on its way up.
        flags = 1 if boundary == 1 else 2
        self.controller.hci_sink.on_packet(
            struct.pack("<BHH", hci.HCI_ACL_DATA_PACKET, self.handle | flags << 12, len(data)) + data
        )
        if sender.alive():
            sender.controller.hci_sink.on_packet(struct.pack("<BBBBHH", 4, 0x13, 5, 1, sender.handle, 1))

    def send_ll_control_pdu(self, packet):
        self.carry(lambda far: far.controller.on_ll_control_pdu(far.peer_address, packet))

    def carry(self, what, size=0):
        """Hands something to the other end: when it has crossed the air, or as soon as it is in reach again."""
        if self.far is None:
            return
        air, far = self.controller.air, self.far
        if self.held or not air.reaches(self.controller, far.controller):
            self.held.append((what, size))
        elif air.rate:
            arrival = air.airtime(self.controller, far.controller, size)
            asyncio.get_running_loop().call_at(arrival, self.arrive, what, far)
        else:
            asyncio.get_running_loop().call_soon(self.arrive, what, far)

    @staticmethod
    def arrive(what, far):
        if far.alive() and far.controller.hci_sink:
            what(far)

    def reach_changed(self):
        if self.far is None or not self.controller.air.reaches(self.controller, self.far.controller):
            self.fade()
            return
        if self.expiry:
            self.expiry.cancel()
            self.expiry = None
        held, self.held = self.held, []
        for what, size in held:
            self.carry(what, size)

    def fade(self):
        """Nothing is heard of the other end any more: the supervision timeout begins."""
        if not self.expiry:
            self.expiry = asyncio.get_running_loop().call_later(self.timeout / 100, self.lose)

    def lose(self):
        if self.alive():
            self.controller.on_le_disconnected(self, LOST)

    def end(self):
        """This end is over; the other one is told, or finds out."""
        far, self.far = self.far, None
        if self.expiry:
            self.expiry.cancel()
        if far:
            far.far = None
            far.fade()


class Beacon:
    """What advertises: sent at its interval, with a jitter, until it is stopped or connected to."""

    timer = end = None

    def start(self):
        self.stop()
        self.enabled = True
        self.timer = asyncio.get_running_loop().call_soon(self.fire)

    def stop(self):
        self.enabled = False
        for handle in (self.timer, self.end):
            if handle:
                handle.cancel()
        self.timer = self.end = None

    def fire(self):
        loop = asyncio.get_running_loop()
        self.timer = loop.call_later(max(self.interval, 32) * 0.000625 + random.random() * 0.01, self.fire)
        self.controller.air.send(self)

    def stop_after(self, seconds):
        self.end = asyncio.get_running_loop().call_later(seconds, self.expire)

    def expire(self):
        self.stop()
        self.controller.send_hci_packet(
            hci.HCI_LE_Advertising_Set_Terminated_Event(
                status=hci.HCI_ErrorCode.ADVERTISING_TIMEOUT_ERROR,
                advertising_handle=self.handle,
                connection_handle=0,
                num_completed_extended_advertising_events=0,
            )
        )


class LegacyBeacon(Beacon, stock.LegacyAdvertiser):
    """The one advertisement of the old commands."""

    sid = hci.HCI_LE_Extended_Advertising_Report_Event.NO_ADI_FIELD_PROVIDED
    # By type: ADV_IND, directed, ADV_SCAN_IND, ADV_NONCONN_IND, directed.
    PROPERTIES = (0x13, 0x1D, 0x12, 0x10, 0x15)

    properties = property(lambda self: self.PROPERTIES[self.advertising_type])
    interval = property(lambda self: self.advertising_interval_min)
    payload = property(lambda self: bytes(self.advertising_data))
    response = property(lambda self: bytes(self.scan_response_data))

    def connected(self, _link):
        self.stop()


class SetBeacon(Beacon, stock.AdvertisingSet):
    """An advertising set of the extended commands."""

    properties = property(lambda self: int(self.parameters.advertising_event_properties) & 0x17)
    interval = property(lambda self: self.parameters.primary_advertising_interval_min)
    payload = property(lambda self: bytes(self.data))
    response = property(lambda self: bytes(self.scan_response_data))
    sid = property(lambda self: self.parameters.advertising_sid)

    def connected(self, link):
        self.stop()
        self.controller.send_hci_packet(
            hci.HCI_LE_Advertising_Set_Terminated_Event(
                status=hci.HCI_ErrorCode.SUCCESS,
                advertising_handle=self.handle,
                connection_handle=link.handle,
                num_completed_extended_advertising_events=0,
            )
        )


# The handlers of the stock controller make sets by this name.
stock.AdvertisingSet = SetBeacon


def key(address):
    return address.address_bytes, int(address.address_type) & 1
