#!/usr/bin/env bash
# Runs one scenario in a small Debian, as its root, on a copy that is thrown away. It sees no network but its own loopback.
#   unshare --mount --net --pid --fork trial.sh CHROOT FOLDER-OF-PACKAGES SCENARIO
set -euo pipefail
chroot=$1
debs=$2
scenario=$3
here=$(realpath "$(dirname "$0")")

work=$(mktemp -d)
mount -t tmpfs none "$work"
mkdir "$work/changed" "$work/scratch" "$work/root"
mount -t overlay overlay -o "lowerdir=$chroot,upperdir=$work/changed,workdir=$work/scratch" "$work/root"
root=$work/root
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs none "$root/run"
mount -t tmpfs none "$root/tmp"
chmod 1777 "$root/tmp"
mkdir "$root/run/lock" "$root/trial"
mount --bind "$debs" "$root/trial"
mkdir "$root/scenarios"
mount --bind "$here/scenarios" "$root/scenarios"
ip link set lo up

# No systemd runs here: what packages do without one is what they do in an image that is being built.
status=0
chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
    bash "/scenarios/$scenario.sh" </dev/null || status=$?
# The mounts go with the namespace; this folder was there before.
umount -R -l "$work"
rmdir "$work"
exit $status
