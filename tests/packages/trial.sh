#!/usr/bin/env bash
# Runs one scenario in a small Debian, as its root, on a copy that is thrown away. It sees no network but its own loopback.
#   trial.sh CHROOT FOLDER-OF-PACKAGES SCENARIO      as root
# A scenario with the line "# Under systemd" runs as a service of a real systemd, which is then process 1 there; others
# without one, as in an image that is being built.
set -euo pipefail
here=$(realpath "$(dirname "$0")")

# Outside: a namespace of each kind but for users, then what the scenario left behind.
if [ "$1" != --inside ]; then
    chroot=$1
    debs=$2
    scenario=$3
    rm -f "$debs/outcome" "$debs/output"
    touch "$debs/output"
    mkdir -p "$chroot.copy"
    timeout 300 unshare --mount --net --pid --cgroup --uts --ipc --fork --kill-child \
        "$here/trial.sh" --inside "$chroot" "$debs" "$scenario" >"$debs/console" 2>&1 || true
    rmdir "$chroot.copy"
    cat "$debs/output"
    [ -e "$debs/outcome" ] || {
        echo "the scenario did not end; the console said last:"
        tail -n 40 "$debs/console"
    }
    grep -qx passed "$debs/outcome"
    exit
fi

chroot=$2
debs=$3
scenario=$4
work=$chroot.copy
mount --make-rprivate /
mount -t tmpfs none "$work"
mkdir "$work/changed" "$work/scratch" "$work/root"
mount -t overlay overlay -o "lowerdir=$chroot,upperdir=$work/changed,workdir=$work/scratch" "$work/root"
cd "$work/root"
mkdir trial scenarios outside
mount --bind "$debs" trial
mount --bind "$here/scenarios" scenarios
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 none dev
for device in null zero full random urandom tty; do
    cp -a "/dev/$device" dev/
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs none dev/shm
mount -t tmpfs -o mode=755 none run
mount -t tmpfs -o mode=1777 none tmp
ip link set lo up
hostname trial

if ! grep -qx '# Under systemd' "scenarios/$scenario.sh"; then
    start="bash /scenarios/run.bash $scenario"
else
    start="/usr/lib/systemd/systemd --unit=trial.service"
    cat >etc/systemd/system/trial.service <<END
[Unit]
After=basic.target
[Service]
Type=oneshot
ExecStart=/bin/bash /scenarios/run.bash $scenario
ExecStopPost=/bin/systemctl --force --force exit
END
fi
# The root itself and not a chroot: services with users of their own are not to be had in one.
pivot_root . outside
exec env -i container=trial PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
    sh -c 'umount -l /outside && exec "$@"' sh $start
