#!/usr/bin/env bash
# Tries the Debian packages of this machine's architecture in small Debians, 12 and 13: installs, upgrades, removes and
# purges them, with a document of a real phone in the store.
#   tests/packages/run.sh              makes packages of programs in the dev profile first
#   tests/packages/run.sh --built      of programs as `cargo build --workspace --all-targets` has just left them
#   tests/packages/run.sh --release    takes those that `make deb` has left; lintian looks at all of them
#   tests/packages/run.sh --arm64      looks at the packages for arm64 as `make deb` has left them, besides
#   tests/packages/run.sh … SCENARIO…  only these of scenarios/
# Needs root: as an ordinary user, `sudo` without a password. Exit status: 0 all passed, 1 not so, 77 where this machine
# cannot try them; 1 also then with WAYPOST_PACKAGES=required.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=tests/packages
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
started=$SECONDS

leave_out() {
    echo "$*" >&2
    [ "${WAYPOST_PACKAGES:-}" = required ] && exit 1
    exit 77
}

built=()
is_release=
arm64=
while [[ ${1:-} = --* ]]; do
    case $1 in
    --built) built=(--built) ;;
    --release) is_release=yes ;;
    --arm64) arm64=yes ;;
    *) echo "there is no option $1" >&2 && exit 2 ;;
    esac
    shift
done
scenarios=("$@")
if [ $# -eq 0 ]; then
    for file in "$here"/scenarios/*.sh; do
        scenarios+=("$(basename "$file" .sh)")
    done
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || leave_out "Trying packages needs root, and sudo asks for a password here."
    as_root=(sudo -n --preserve-env=CARGO_TARGET_DIR)
fi
if ! command -v mmdebstrap >/dev/null; then
    echo "Installing Debian packages: mmdebstrap"
    "${as_root[@]}" apt-get update -qq || true
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null ||
        leave_out "Trying packages needs mmdebstrap, which apt cannot install."
fi

# The Debians are made meanwhile, where they are missing; below each is waited for.
for release in bookworm trixie; do
    "${as_root[@]}" "$here/chroot.sh" "$release" >/dev/null 2>&1 9>&- &
done

# The packages, and a later version of each, in which the maintainer has changed the configuration too.
phase=$SECONDS
kept=$target/packages
debs=$kept/debs
own=$(dpkg --print-architecture)
rm -rf "$debs"
mkdir -p "$debs/now" "$debs/later" "$debs/others"
if [ -n "$is_release" ]; then
    cp "$target"/debian/*_"$own".deb "$debs/now/"
    find "$target/debian" -name '*.deb' ! -name "*_$own.deb" -exec cp -t "$debs/others" {} +
    [ "$(find "$debs/now" "$debs/others" -name '*.deb' | wc -l)" -ge 8 ] || { echo "make deb has not left eight packages in $target/debian" >&2 && exit 1; }
else
    images/packages.sh --profile dev "${built[@]}" --arch "$own" --out "$debs/now" >/dev/null
fi
for deb in "$debs"/now/*.deb; do
    "$here/later.sh" "$deb" "$debs/later"
done
echo "packages: $((SECONDS - phase)) s"

failed=0
passed=0
check() { # name, command…
    local name=$1 begun=$SECONDS log=$kept/results/$1.txt
    shift
    mkdir -p "$(dirname "$log")"
    if "$@" >"$log" 2>&1; then
        passed=$((passed + 1))
        echo "PASS $name: $((SECONDS - begun)) s"
    else
        failed=$((failed + 1))
        echo "FAIL $name: $((SECONDS - begun)) s; the end of $log:" >&2
        tail -n 30 "$log" >&2
    fi
}

check complete "$here/complete.sh" "$debs/now"
# It takes a machine over: the image is where it is tried.
mkdir -p "$debs/kiosk/later"
mv "$debs"/now/waypost-kiosk_*.deb "$debs/kiosk/"
mv "$debs"/later/waypost-kiosk_*.deb "$debs/kiosk/later/"
for release in bookworm trixie; do
    phase=$SECONDS
    chroot=$("${as_root[@]}" "$here/chroot.sh" "$release")
    echo "Debian $release: $((SECONDS - phase)) s"
    for scenario in "${scenarios[@]}"; do
        only=$(sed -n 's/^# Only on //p' "$here/scenarios/$scenario.sh")
        [ -z "$only" ] || [ "$only" = "$release" ] || continue
        check "$release/$scenario" "${as_root[@]}" "$here/trial.sh" "$chroot" "$debs" "$scenario"
    done
done
if [ -n "$arm64" ]; then
    check arm64 "$here/arm64.sh" "$target/debian"
fi
echo "packages: $passed passed, $failed failed, $((SECONDS - started)) s; outputs: $kept/results"
[ $failed -eq 0 ]
