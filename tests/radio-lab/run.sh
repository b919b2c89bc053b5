#!/usr/bin/env bash
# Runs scenarios with real BlueZ and a real kernel on virtual radios, in one emulated machine: all of them, or those named.
#   tests/radio-lab/run.sh [SCENARIO…]
#   tests/radio-lab/run.sh --built      with the programs as `cargo build --workspace --all-targets` has just left them
#   tests/radio-lab/run.sh --service    the scenarios of service/: the unit that admins are given, under systemd
#   tests/radio-lab/run.sh --verbose    with bluetoothd's debug lines, and a capture of what goes between hosts and controllers
#   tests/radio-lab/run.sh --bench      the figures of bench/ in place of the scenarios
# Exit status: 0 all passed, 1 not so, 77 where there is no QEMU and none can be installed; 1 also then with
# WAYPOST_RADIO_LAB=required.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=tests/radio-lab
target=${CARGO_TARGET_DIR:-target}
lab=$target/radio-lab
started=$SECONDS

fail() {
    echo "$*" >&2
    exit 1
}

if ! "$here/host.sh"; then
    [ "${WAYPOST_RADIO_LAB:-}" != required ] || exit 1
    exit 77
fi
mkdir -p "$lab"
exec 9>"$lab/lock"
flock 9

kind=scenarios
is_built=
is_verbose=
while [[ ${1:-} = --* ]]; do
    case $1 in
    --built) is_built=yes ;;
    --verbose) is_verbose=yes ;;
    --service | --bench) kind=${1#--} ;;
    *) fail "there is no option $1" ;;
    esac
    shift
done
results=$lab/results
[ $kind = scenarios ] || results=$lab/$kind-results
scenarios=("$@")
if [ $# -eq 0 ]; then
    for file in "$here/$kind"/*.py; do
        scenarios+=("$(basename "$file" .py)")
    done
fi
limit=180
lengths=()
waiting=()
for name in "${scenarios[@]}"; do
    file=$here/$kind/$name.py
    [ -e "$file" ] || fail "there is no scenario $name; there are: $(cd "$here/$kind" && echo *.py)"
    own=$(sed -n 's/^LIMIT = \([0-9]*\).*/\1/p' "$file")
    # Each is set up and cleaned away besides.
    limit=$((limit + ${own:-120} + 30))
    # Those that mostly wait come last, and a guest of their own begins with them.
    waits=0
    ! grep -q '^WAITS = True' "$file" || waits=1
    lengths+=("$waits ${own:-120} $name")
done
# The longest first, so that no guest ends long after the other.
mapfile -t scenarios < <(printf '%s\n' "${lengths[@]}" | sort -k1,1n -k2,2nr -k3 | cut -d' ' -f3)
mapfile -t waiting < <(printf '%s\n' "${lengths[@]}" | grep '^1' | sort -k2,2nr -k3 | cut -d' ' -f3)

# The guest: a folder of its own for each state of what it is made of.
phase=$SECONDS
made_of=$(find "$here/guest" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c1-16)
guest=$lab/guest-$made_of
if [ ! -d "$guest" ]; then
    rm -rf "$lab"/guest-*
    echo "building the guest, about a minute"
    "$here/guest/build.sh" "$guest.new"
    mv "$guest.new" "$guest"
fi
echo "guest: $((SECONDS - phase)) s"

# What goes into it, newly each time: the programs, this folder, the files that admins are given.
phase=$SECONDS
programs=(waypost waypost-phone waypost-destination)
profile=debug
build=("${CARGO:-cargo}" build --locked --quiet)
if [ $kind = bench ]; then
    # As they are used.
    profile=release
    build+=(--release)
    "${build[@]}" -p waypost-ble --example bare
    programs+=(examples/bare)
fi
# Three packages alone have other features of what they use than the workspace has: all of that would be built anew.
[ -n "$is_built" ] || "${build[@]}" -p waypost-gateway -p waypost-phone -p waypost-destination
share=$lab/share
mkdir -p "$lab/$profile"
for program in "${programs[@]}"; do
    built=$target/$profile/$program
    stripped=$lab/$profile/${program##*/}
    [ "$stripped" -nt "$built" ] || strip -o "$stripped" "$built"
done
rm -rf "$share" "$results"
mkdir -p "$share"
cp -r "$lab/$profile" "$share/bin"
cp -r "$here/lab" "$share/"
cp -r "$here/$kind" "$share/scenarios"
cp -r systemd tests/interop "$share/"
for number in 1 2; do
    printf '%s\n' "${scenarios[@]}" >"$share/scenarios-$number.txt"
done
printf '%s\n' "${waiting[@]}" >"$share/scenarios-3.txt"
[ -z "$is_verbose" ] || touch "$share/verbose"
mkdir -p "$results"
echo "programs: $((SECONDS - phase)) s"

# Emulation, also where there is KVM: the same on every machine. The first serial line is the console, the second what
# the scenarios report. With enough memory two guests share the scenarios, but for figures; a third takes those that
# mostly wait, at a lower priority, so that it has what time of the processors the other two leave. One processor for
# each, without what costs time at every page table and copy to user space: a quarter of all work. With several a
# kernel that changes its own code as it starts now and then falls over that change; figures have two all the same,
# since there are two machines in them.
phase=$SECONDS
guests=1
processors=1
[ $kind != bench ] || processors=2
memory=$(awk '$1 == "MemAvailable:" { print int($2 / 1024) }' /proc/meminfo)
if [ $kind != bench ] && [ ${#scenarios[@]} -gt 1 ] && [ "$(nproc)" -gt 1 ] && [ "$memory" -gt 6000 ]; then
    guests=2
    [ ${#waiting[@]} -lt 2 ] || [ "$memory" -lt 9000 ] || guests=3
fi
boot() {
    local given=()
    [ "$1" -lt 3 ] || given=(nice -n 5)
    timeout "$limit" "${given[@]}" qemu-system-x86_64 \
        -machine q35 -accel tcg -cpu max,la57=off,smap=off,smep=off,pku=off,pks=off,umip=off -smp "$processors" -m 2048 \
        -nodefaults -no-user-config -no-reboot -display none -monitor none -nic none \
        -kernel "$guest/kernel" -initrd "$guest/initrd" \
        -append "console=ttyS0 quiet loglevel=4 mitigations=off random.trust_cpu=on panic=-1 tsc=reliable no_timer_check systemd.unit=radio-lab.target systemd.show_status=no lab.guest=$1" \
        -drive "file=$guest/root.img,if=virtio,format=raw,snapshot=on" \
        -device virtio-rng-pci \
        -fsdev "local,id=share,path=$share,security_model=none,readonly=on" -device virtio-9p-pci,fsdev=share,mount_tag=share \
        -fsdev "local,id=results,path=$results,security_model=none" -device virtio-9p-pci,fsdev=results,mount_tag=results \
        -serial "file:$results/console-$1.txt" -serial stdio </dev/null 2>"$results/qemu-$1.txt" | sed --unbuffered 's/\r$//'
    return "${PIPESTATUS[0]}"
}
running=()
for number in $(seq "$guests"); do
    boot "$number" &
    running+=($!)
done
status=0
for process in "${running[@]}"; do
    wait "$process" || status=$?
done
echo "$kind: $((SECONDS - phase)) s"
echo "radio lab: $((SECONDS - started)) s; outputs, logs and captures of each scenario: $results"

[ $status -ne 124 ] || echo "a guest was still busy after $limit s" >&2
passed=0
failed=0
for name in "${scenarios[@]}"; do
    outcome=$(cat "$results/$name/outcome.txt" 2>/dev/null) || outcome="without a result"
    case $outcome in
    passed) passed=$((passed + 1)) ;;
    failed)
        failed=$((failed + 1))
        # Once more at the end: of a long output that is read first.
        echo "FAIL $name: $(head -n 1 "$results/$name/wrong.txt")" >&2
        for log in "$results/$name"/{kiosk-*[0-9].log,bluetoothd.txt}; do
            [ ! -e "$log" ] || tail -n 25 "$log" | cut -c1-200 | sed "s/^/    ${log##*/}: /" >&2
        done
        ;;
    *)
        failed=$((failed + 1))
        echo "FAIL $name: its guest ended $outcome; the consoles said last:" >&2
        tail -n 40 "$results/"console-*.txt "$results/"qemu-*.txt >&2 || true
        ;;
    esac
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
