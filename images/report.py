"""Writes beside an image what is in it: bill of materials, report, checksums, the entry for Raspberry Pi Imager.

    report.py FOLDER PROFILE URL    # of the folder where it will be published; where it is empty, there is no entry for Imager
"""

import datetime
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

NAME = "waypost-arm64.img"
# Boards that the image is for, as Raspberry Pi Imager calls them.
BOARDS = ["pi3-64bit", "pi4-64bit"]


def main():
    folder, profile, url = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    root = folder / "parts/root"
    image, packed = folder / NAME, folder / f"{NAME}.zst"
    when = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.UTC)
    packages = installed(root)
    bill = folder / f"{NAME}.cdx.json"
    bill.write_text(json.dumps(bill_of_materials(packages, when), indent=1) + "\n")

    version = next(one["version"] for one in packages if one["name"] == "waypost")
    report = {
        "version": version,
        "profile": profile,
        "commit": commit(),
        "kernel": kernel(packages),
        "debian_packages": len(packages),
        "image_bytes": image.stat().st_size,
        "packed_bytes": packed.stat().st_size,
        "root_bytes": (folder / "root.squashfs").stat().st_size,
        "root_sha256": digest(folder / "root.squashfs"),
        "boot_bytes": sum(path.stat().st_size for path in (folder / "parts/card/boot").rglob("*") if path.is_file()),
        "built_from": when.isoformat(),
    }
    (folder / f"{NAME}.report.json").write_text(json.dumps(report, indent=1) + "\n")
    sums = [packed, bill, folder / f"{NAME}.report.json"]
    entry, icon = folder / "imager.json", folder / "icon.svg"
    for old in (entry, icon):
        old.unlink(missing_ok=True)
    if url:
        shutil.copyfile("images/icon.svg", icon)
        entry.write_text(json.dumps(imager(image, packed, icon, url.rstrip("/"), version, when), indent=1) + "\n")
        sums += [entry, icon]
    (folder / "SHA256SUMS").write_text("".join(f"{digest(path)}  {path.name}\n" for path in sums))
    print(f"{packed}: {packed.stat().st_size / 1e6:.0f} MB, {len(packages)} packages, root {report['root_bytes'] / 1e6:.0f} MB")


def installed(root):
    """Name, version, source and licence file of each package, by dpkg's own list."""
    fields = ["${Package}", "${Version}", "${Architecture}", "${source:Package}", "${source:Version}", "${Maintainer}"]
    said = subprocess.run(
        ["dpkg-query", f"--admindir={root}/var/lib/dpkg", "--show", "--showformat", "\t".join(fields) + "\n"],
        capture_output=True, text=True, check=True,
    ).stdout
    names = ["name", "version", "arch", "source", "source_version", "maintainer"]
    return [dict(zip(names, line.split("\t"), strict=True)) for line in sorted(said.splitlines())]


def bill_of_materials(packages, when):
    """CycloneDX 1.6 (ECMA-424): Debian's packages, and the crates that our programs are built from."""
    components = [
        {
            "type": "library",
            "name": one["name"],
            "version": one["version"],
            "supplier": {"name": one["maintainer"]},
            "purl": f"pkg:deb/debian/{one['name']}@{one['version'].replace('+', '%2B')}?arch={one['arch']}",
            "properties": [{"name": "debian:source", "value": f"{one['source']} {one['source_version']}"}],
        }
        for one in packages
    ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {"type": "operating-system", "name": "waypost-arm64"},
        },
        "components": components + crates(),
    }


def crates():
    """Other people's crates that the programs on the card are built from."""
    tree = [os.environ.get("CARGO", "cargo"), "tree", "--locked", "--edges=normal", "--prefix=none", "--format={p}"]
    tree += ["--target=aarch64-unknown-linux-gnu", "--package=waypost-gateway", "--package=waypost-kiosk"]
    said = subprocess.run(tree, capture_output=True, text=True, check=True).stdout
    used = {tuple(line.split()[:2]) for line in said.splitlines() if line}
    lock = tomllib.loads(Path("Cargo.lock").read_text())
    return [
        {
            "type": "library",
            "name": one["name"],
            "version": one["version"],
            "purl": f"pkg:cargo/{one['name']}@{one['version']}",
            "hashes": [{"alg": "SHA-256", "content": one["checksum"]}],
        }
        for one in lock["package"]
        if "checksum" in one and (one["name"], f"v{one['version']}") in used
    ]


def kernel(packages):
    return next(one["version"] for one in packages if one["name"] == "linux-image-arm64")


def commit():
    said = subprocess.run(["git", "-c", f"safe.directory={Path.cwd()}", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return said.stdout.strip() or None


def imager(image, packed, icon, url, version, when):
    """A repository for Raspberry Pi Imager, in its "os_list" format, version 4 (rpi-imager, doc/json-schema)."""
    return {
        "os_list": [
            {
                "name": f"Waypost {version}",
                "description": "A kiosk that takes documents from phones and uploads them when there is a connection",
                "icon": f"{url}/{icon.name}",
                "url": f"{url}/{packed.name}",
                "release_date": when.strftime("%Y-%m-%d"),
                "extract_size": image.stat().st_size,
                "extract_sha256": digest(image),
                "image_download_size": packed.stat().st_size,
                "image_download_sha256": digest(packed),
                "devices": BOARDS,
                "init_format": "cloudinit",
            }
        ]
    }


def digest(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


main()
