#!/usr/bin/env bash
# Makes the freshly installed Debian into the guest: kernel, modules, Python packages, units; then its images. A hook of build.sh.
#   customize.sh ROOT WORK
set -euo pipefail
root=$1
work=$2
cd "$(dirname "$0")"

# The kernel is unpacked, not installed: an initial RAM disk of Debian's would take longer than the boot may.
package=$(chroot "$root" apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
(cd "$work" && chroot "$root" sh -c "cd /tmp && apt-get download -qq $package" && mv "$root"/tmp/linux-image-*.deb kernel.deb)
dpkg-deb --extract "$work/kernel.deb" "$work/unpacked"
version=$(basename "$work"/unpacked/boot/vmlinuz-* | cut -d- -f2-)
cp "$work/unpacked/boot/vmlinuz-$version" "$work/kernel"
from=$work/unpacked/usr/lib/modules/$version
# kmod looks below lib/.
ln -s usr/lib "$work/unpacked/lib"
depmod --basedir "$work/unpacked" "$version"

# Uncompressed: emulation is slow at that, and the disk is not short.
depends() { # folder, modules
    local folder=$1
    shift
    modprobe --dirname "$folder" --set-version "$version" --show-depends --all "$@" | awk '$1 == "insmod" && !seen[$2]++ { print $2 }'
}
to=$root/usr/lib/modules/$version
depends "$work/unpacked" $(grep -v '^#' modules.txt) | while read -r module; do
    place=$to/${module#*/lib/modules/"$version"/}
    mkdir -p "$(dirname "$place")"
    case $module in
    *.xz) xz -dc "$module" >"${place%.xz}" ;;
    *) cp "$module" "$place" ;;
    esac
done
cp "$from"/modules.{builtin,builtin.modinfo,order} "$to/"
depmod --basedir "$root" "$version"

# The initial RAM disk loads what the root's disk needs, and goes over to it.
mkdir -p "$work"/ram/{bin,lib,lib64,modules,dev,proc,new}
cp "$root/usr/bin/busybox" "$work/ram/bin/"
cp -L "$root"/lib/x86_64-linux-gnu/{libc.so.6,libresolv.so.2} "$work/ram/lib/"
cp -L "$root/lib64/ld-linux-x86-64.so.2" "$work/ram/lib64/"
number=10
for module in $(depends "$root" virtio_blk ext4); do
    cp "$module" "$work/ram/modules/$((number++))-$(basename "$module")"
done
install -m 755 initrd-init.sh "$work/ram/init"
(cd "$work/ram" && find . | cpio --create --format=newc --quiet >"$work/initrd")

site=$root/usr/local/lib/python3.13/dist-packages
mkdir -p "$site"
for wheel in "$work"/wheels/*.whl; do
    python3 -m zipfile -e "$wheel" "$site"
done
# Programs and firmware for dongles, that nothing here imports.
rm -rf "$site"/bumble/{apps,tools}
chroot "$root" python3 -m compileall -q /usr/local/lib/python3.13 || true

cp -r files/. "$root/"
# What a machine does once at its first boot, or for hardware that the guest has not, takes seconds of each boot here.
for unit in $(grep -v '^#' masked.txt); do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
rm -f "$root/etc/machine-id"
echo 7261646964696c6162726164696f6c61 >"$root/etc/machine-id"
mkdir -p "$root"/{share,results}

rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/log/* "$root"/tmp/*
# A view of the root without what is mounted in it while hooks run.
mkdir "$work/bare"
mount --bind "$root" "$work/bare"
size=$(($(du -sxm "$work/bare" | cut -f1) + 150))
mke2fs -q -t ext4 -O ^has_journal,^metadata_csum -m 0 -L radio-lab -d "$work/bare" "$work/root.img" "${size}M" >/dev/null
umount "$work/bare"
rmdir "$work/bare"
# What is left must be movable by who started all this, where hooks are somebody else.
rm -rf "$work"/{unpacked,ram,kernel.deb}
chmod a+rw "$work"/{kernel,initrd,root.img}
