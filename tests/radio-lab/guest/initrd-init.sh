#!/bin/busybox sh
# The first program of the guest: mounts its root and starts systemd there.
export PATH=/bin
/bin/busybox mount -t devtmpfs dev /dev
for module in /modules/*; do
    /bin/busybox insmod "$module"
done
waited=0
while [ ! -b /dev/vda ] && [ $waited -lt 200 ]; do
    /bin/busybox usleep 10000
    waited=$((waited + 1))
done
/bin/busybox mount -t ext4 -o noatime /dev/vda /new || exec /bin/busybox poweroff -f
/bin/busybox mount --move /dev /new/dev
exec /bin/busybox switch_root /new /usr/lib/systemd/systemd
