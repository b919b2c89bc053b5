"""What BlueZ does with an advertisement's intervals and scan response, without experimental interfaces, on new and old controllers."""

from lab import Lab, wait_until

SERVICE = "6b1a0001-7c55-4c9e-9f10-aabbccddeeff"
PLAIN = {"Discoverable": ("b", True), "ServiceUUIDs": ("as", [SERVICE])}
# An old controller has 31 bytes, 3 of them flags and 18 the service's.
LEGACY = {"hci1"}


def run(lab: Lab):
    for name in ("hci0", "hci1"):
        adapter = lab.adapter(name)

        # The interval is main.conf's …
        adapter.advertise(PLAIN)
        [plain] = lab.radio.advertisements(name)
        assert (plain["interval"], plain["response"]) == (100, ""), plain
        adapter.stop_advertising()

        # … or the advertisement's own, in milliseconds; ScanResponse* properties count, where they are there from the start.
        adapter.advertise(
            {
                **PLAIN,
                "MinInterval": ("u", 250),
                "MaxInterval": ("u", 300),
                "ScanResponseServiceData": ("a{sv}", {SERVICE: ("ay", b"\x05\x06")}),
            }
        )
        [own] = lab.radio.advertisements(name)
        assert own["interval"] == 250, own
        assert own["response"].endswith("0506"), own
        adapter.stop_advertising()
        wait_until("it is silent", lambda: not lab.radio.advertisements(name))
