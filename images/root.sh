#!/usr/bin/env bash
# Makes Debian into the kiosk: our packages, systemd/, overlay/. Leaves what each of the card's partitions has in OUT/root,
# OUT/card/boot and OUT/card/data.
#   images/root.sh NATIVE BASE DEBS OUT      # NATIVE: what native.sh makes
set -euo pipefail
# Whatever is mounted goes with this.
[ -n "${WAYPOST_MOUNTS:-}" ] || WAYPOST_MOUNTS=own exec unshare --mount "$0" "$@"
native=$(realpath "$1")
base=$(realpath "$2")
debs=$(realpath "$3")
out=$(realpath -m "$4")
cd "$(dirname "$0")"
umask 022
root=$out/root
boot=$out/card/boot
data=$out/card/data
given=../systemd

inside() { # as arm64's programs are run on this machine; systemctl wants to see its process
    PATH=/native:$PATH unshare --mount --pid --fork --mount-proc="$root/proc" chroot "$root" "$@"
}

rm -rf "$out"
mkdir -p "$root" "$boot" "$data"
tar --extract --file "$base" --directory "$root" --numeric-owner
./native.sh show "$native" "$root"

# Ours, before the packages: who owns what is the same in every image, since the data stays when the root is replaced.
cp -r overlay/. "$root/"
mkdir -p "$root/packages" "$root/data" "$root/boot/firmware"
cp "$debs"/*.deb "$root/packages/"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
DEBIAN_FRONTEND=noninteractive inside sh -c 'dpkg --force-confold --force-unsafe-io --install /packages/*.deb >/packages/log 2>&1' || {
    cat "$root/packages/log" >&2
    exit 1
}
rm -r "$root/packages" "$root/usr/sbin/policy-rc.d"

# All packages are there that have a part in it.
version=$(basename "$root"/usr/lib/modules/*)
find "$root/etc" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
inside sh -c "update-initramfs -c -k $version >/dev/null && lsinitramfs /boot/initrd.img-$version" >"$out/initramfs.txt"

# A kiosk is nothing else: what other machines are only shown as examples is in force here.
install -m 644 -D $given/udev/71-waypost-kiosk.rules "$root/etc/udev/rules.d/71-waypost-kiosk.rules"
install -m 644 -D $given/journald.conf.d/waypost.conf "$root/etc/systemd/journald.conf.d/waypost.conf"
install -m 644 -D $given/chrony.conf "$root/etc/chrony/chrony.conf"
install -m 644 -D $given/chrony.service.d/waypost.conf "$root/etc/systemd/system/chrony.service.d/waypost.conf"
install -m 644 -D $given/bluetooth/main.conf "$root/etc/bluetooth/main.conf"
install -m 644 -D $given/bluetooth.service.d/waypost.conf "$root/etc/systemd/system/bluetooth.service.d/waypost.conf"
install -m 644 -D $given/dbus-1/system-local.conf "$root/etc/dbus-1/system-local.conf"
install -m 644 -D $given/nftables/waypost.nft "$root/etc/waypost/wifi.nft"
install -m 644 $given/waypost-wifi-firewall.{service,timer} "$root/etc/systemd/system/"
kiosk=$given/kiosk
install -m 644 -D $kiosk/NetworkManager/waypost-kiosk.conf "$root/etc/NetworkManager/conf.d/waypost-kiosk.conf"
install -m 644 -D $kiosk/ssh.service.d/waypost.conf "$root/etc/systemd/system/ssh.service.d/waypost.conf"
install -m 644 -D $kiosk/sshd_config.d/waypost.conf "$root/etc/ssh/sshd_config.d/waypost.conf"
install -m 440 -D $kiosk/sudoers.d/waypost "$root/etc/sudoers.d/waypost"
inside systemctl --quiet enable $(grep -v '^#' units-enabled.txt)
inside systemctl --quiet disable $(grep -v '^#' units-disabled.txt)
inside systemctl --quiet mask $(grep -v '^#' units-masked.txt)

# What the card is, beside what Debian it is: an update will tell its own from what is there (os-release(5)).
version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"$/\1/p' ../Cargo.toml)
printf 'IMAGE_ID=waypost\nIMAGE_VERSION=%s\n' "$version" >>"$root/usr/lib/os-release"

./native.sh hide "$root"
foreign=$(find "$root" -xdev \( -uid +65534 -o -gid +65534 -o -uid 1000 -o -gid 1000 \) -print -quit)
[ -z "$foreign" ] || { echo "$foreign is nobody's of the image's" >&2 && exit 1; }

# The first partition: firmware, device trees, kernel.
cp -r "$root"/usr/lib/raspi-firmware/. "$boot/"
cp "$root"/usr/lib/linux-image-*/broadcom/bcm2{711,837}-rpi-*.dtb "$boot/"
cp "$root"/boot/vmlinuz-* "$boot/vmlinuz"
cp "$root"/boot/initrd.img-* "$boot/initrd.img"
cp boot/* "$boot/"
python3 foreign.py "$boot/initrd.img"
for part in scripts/init-bottom/overlayroot scripts/init-bottom/waypost-machine-id udev/rules.d/61-waypost-card.rules; do
    grep -q "$part\$" "$out/initramfs.txt" || { echo "the initramfs lacks $part" >&2 && exit 1; }
done
python3 drivers.py "$root" "$out/initramfs.txt" "$boot"/*.dtb
# The firmware fills in the address of the Bluetooth controller, which has none of its own, where this name leads it.
for tree in "$boot"/*.dtb; do
    node=$(fdtget -t s "$tree" /aliases serial0)/bluetooth
    fdtget -p "$tree" "$node" >/dev/null 2>&1 || continue
    fdtput -t s "$tree" /aliases bluetooth "$node"
    fdtput -t bx "$tree" "$node" local-bd-address 0 0 0 0 0 0
done
cp ../config/waypost.toml "$boot/waypost-example.toml"
# The firmware's variants with cameras, with debugging, and with less than gpu_mem=32 in config.txt.
rm "$boot"/{start,fixup}*{x,db,cd}.*

# The last one: folders, for whom they are.
id_of() { awk -F: -v name="$1" '$1 == name { print $3 }' "$root/etc/$2"; }
while read -r folder owner group mode; do
    install -d -m "$mode" -o "$(id_of "$owner" passwd)" -g "$(id_of "$group" group)" "$data/$folder"
done < <(grep -v '^#' data.txt)
# A new kiosk's clock begins at the image's time, never before it: for systemd, and for chronyd, which believes in no clock that is
# behind its drift file. Crystals of these boards are right within 100 ppm.
touch "$root/usr/lib/clock-epoch"
echo "0.000000 100.000000" >"$data/chrony/chrony.drift"
chown "$(id_of _chrony passwd):$(id_of _chrony group)" "$data/chrony/chrony.drift"
find "$boot" "$data" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +

# What a system does once after each update, and here would do at each start: there is nothing left to do.
touch "$root/etc/.updated" "$root/var/.updated"

# What is the machine's own, or nobody's.
rm -rf "$root"/boot/* "$root"/initrd.img* "$root"/vmlinuz* "$root"/var/lib/apt/lists/* "$root"/var/cache/* "$root"/var/log/* "$root"/tmp/* "$root"/run/* \
    "$root"/etc/hostname "$root"/etc/ssh/ssh_host_* "$root"/var/lib/dbus/machine-id "$root"/var/lib/systemd/random-seed
mkdir -p "$root/boot/firmware" "$root/var/log/journal"
: >"$root/etc/machine-id"
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
ln -sf /run/waypost-kiosk/localtime "$root/etc/localtime"
