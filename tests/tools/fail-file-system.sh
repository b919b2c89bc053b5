#!/bin/sh
# On a kiosk, as root: the kernel finds an error in the data partition's file system; and the board, which would be started anew for
# that half an hour after its start at the earliest, may be at once.
set -eu
mkdir -p /run/systemd/system/waypost.service.d
printf '[Service]\nEnvironment=WAYPOST_REPAIR_AFTER=0\n' >/run/systemd/system/waypost.service.d/now.conf
systemctl daemon-reload
sync
echo test >/sys/fs/ext4/"$(basename "$(readlink -f /dev/waypost/data)")"/trigger_fs_error
