# What the scenarios have in common. Each runs as root of a small Debian; /trial/now has the packages, /trial/later those
# of a higher version. A scenario fails where a command fails, or says so itself.
set -euo pipefail

fail() {
    echo "FAIL: $*" >&2
    exit 1
}

step() {
    echo "-- $*"
}

install_packages() { # files; as unattended upgrades do where the admin has changed a file of the configuration
    dpkg --force-confold --install "$@"
}

is() { # what, found, wanted
    [ "$2" = "$3" ] || fail "$1 is »$2«, not »$3«"
}

owner_and_mode() { # path, wanted
    is "owner and mode of $1" "$(stat -c '%U:%G %a' "$1")" "$2"
}

gone() { # paths
    local path
    for path in "$@"; do
        [ ! -e "$path" ] && [ ! -L "$path" ] || fail "$path is still there"
    done
}

there() { # paths
    local path
    for path in "$@"; do
        [ -e "$path" ] || fail "$path is not there"
    done
}

as() { # user, command…; in its own group and the others that it has
    local user=$1
    shift
    setpriv --reuid "$user" --regid "$user" --init-groups env HOME=/nonexistent "$@"
}

start() { # user, command…; it ends with `stop`
    setpriv --reuid "$1" --regid "$1" --init-groups env HOME=/nonexistent "${@:2}" >/tmp/log 2>&1 &
    started=$!
}

stop() {
    kill "$started"
    wait "$started" || fail "it ended with status $?: $(cat /tmp/log)"
}

await() { # seconds, command…
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "waited in vain: $*"
        sleep 0.1
    done
}
