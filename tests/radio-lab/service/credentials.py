"""waypost.service takes its keys from systemd's credentials, as they are or encrypted, and leaves none beside the store. Whether the
clock follows a time server it hears from systemd."""

import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from lab import Lab, forms, wait_until
from lab.bluez import systemctl
from lab.service import STATE, clock_follows_a_server, fails

CONTROLLERS = 1
PLAIN, ENCRYPTED = Path("/etc/credstore/waypost.identity"), Path("/etc/credstore.encrypted/waypost.store-key")


def run(lab: Lab):
    identity, key = secrets.token_bytes(32), secrets.token_bytes(32)
    for path in (PLAIN, ENCRYPTED):
        path.parent.mkdir(mode=0o700, exist_ok=True)
    PLAIN.write_bytes(identity)
    PLAIN.chmod(0o400)
    lab.run("systemd-creds", "setup")
    clear = lab.state / "key"
    clear.write_bytes(key)
    lab.run("systemd-creds", "encrypt", "--with-key=host", "--name=waypost.store-key", clear, ENCRYPTED)
    try:
        with lab.service("hci0") as kiosk:
            kiosk.drop_in("key", "[Service]\nLoadCredentialEncrypted=waypost.store-key\n")
            lab.destination().stop()
            kiosk.start()
            public = X25519PrivateKey.from_private_bytes(identity).public_key().public_bytes_raw()
            assert kiosk.status()["key"] == public.hex()
            amina = lab.phone("amina", "hci0")
            amina.pair(kiosk)
            amina.add(forms(2))
            assert amina.sync()["transferred"] == 2
            kiosk_before = kiosk.status()
            kiosk.stop()
            there = {str(path.relative_to(STATE)) for path in STATE.rglob("*")}
            assert not [name for name in there if name.endswith(".key")], there
            everything = b"".join(path.read_bytes() for path in STATE.rglob("*") if path.is_file())
            for secret in (identity, key):
                assert secret not in everything and secret.hex().encode() not in everything

            assert not kiosk_before["clock_trusted"], "nobody has confirmed the clock"
            clock_follows_a_server(True)
            kiosk.start()
            assert kiosk.status()["waiting"] == 2
            wait_until("the clock counts as right", lambda: kiosk.status()["clock_trusted"], 40)
            kiosk.stop()
            # Without its key the store stays shut, and nothing is made anew.
            os.rename(ENCRYPTED, ENCRYPTED.with_suffix(".away"))
            kiosk.drop_in("once", "[Service]\nRestart=no\n")
            assert fails(kiosk.start), "it runs without the store's key"
            assert "the store does not open without it" in kiosk.journal(), kiosk.journal()
            assert not list(STATE.rglob("*.key")), "no key is made anew"
            os.rename(ENCRYPTED.with_suffix(".away"), ENCRYPTED)
            systemctl("reset-failed", "waypost.service")
            kiosk.start()
            assert kiosk.status()["waiting"] == 2
    finally:
        clock_follows_a_server(False)
        PLAIN.unlink()
        ENCRYPTED.unlink(missing_ok=True)
