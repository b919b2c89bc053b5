#!/usr/bin/env bash
# Runs a test program as root, where it needs that: to mount FUSE, make TUN interfaces and network namespaces. An
# ordinary user becomes root of a user namespace, or uses sudo where it asks for no password. Cargo's runner in `make test`.
set -u

# The tests that need it are those that have these devices in them; the others run as who started them.
if [ "$(id -u)" -eq 0 ] || ! grep -qaE '/dev/(fuse|net/tun)' "$1"; then
    exec "$@"
fi

why=()
for device in /dev/fuse /dev/net/tun; do
    if [ ! -e "$device" ]; then
        why+=("there is no $device (modprobe fuse tun)")
    elif [ ! -r "$device" ] || [ ! -w "$device" ]; then
        why+=("$device is closed to you (sudo chmod 666 $device)")
    fi
done
# A kernel may allow user namespaces and refuse what they are needed for, so all of it is tried.
probe='mount -t tmpfs none /mnt && unshare -n true'
if ! unshare -Urm sh -c "$probe" 2>/dev/null; then
    why+=("this kernel lets you make no user namespace (sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0, or kernel.unprivileged_userns_clone=1)")
fi
if [ ${#why[@]} -eq 0 ]; then
    exec unshare -Urm "$@"
fi
if sudo -n true 2>/dev/null; then
    exec sudo -n --preserve-env "$@"
fi
echo "These tests need root, and will say so. Run them as root, or mend this first:" >&2
printf '  %s\n' "${why[@]}" >&2
exec "$@"
