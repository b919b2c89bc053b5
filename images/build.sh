#!/usr/bin/env bash
# Builds the image of a kiosk: target/image/waypost-arm64.img.zst, with checksums, a bill of materials and a report.
#   images/build.sh
#     --profile dev     programs as in development, and less compression: for tests, after `cargo build --workspace
#                       --all-targets`, which makes the manual pages
#     --fresh           with the packages that Debian has now; else Debian's part is built once for each state of
#                       debian, packages.txt and base/, and in the release profile once a day
#     --url URL         of the folder where the image will be published: what imager.json, for Raspberry Pi Imager, says
set -euo pipefail
cd "$(dirname "$0")/.."
here=images
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
out=$target/image
started=$SECONDS

profile=release
is_fresh=
url=
while [ $# -gt 0 ]; do
    case $1 in
    --profile) profile=$2 && shift ;;
    --fresh) is_fresh=yes ;;
    --url) url=$2 && shift ;;
    *) echo "there is no option $1" >&2 && exit 1 ;;
    esac
    shift
done
umask 022
level=15
[ "$profile" != dev ] || level=3

$here/host.sh
mkdir -p "$out"
exec 9>"$out/lock"
flock 9

# What is in the image has the time of the commit: the same sources and packages, in the same folder, make the same root.
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    # Root, as whom this runs, may not be the owner of the sources.
    if [ -e .git ]; then
        SOURCE_DATE_EPOCH=$(git -c safe.directory="$PWD" log -1 --format=%ct)
    else
        SOURCE_DATE_EPOCH=$(stat -c %Y CHANGELOG.md)
    fi
fi
# mke2fs and e2fsck have names of their own for it.
export SOURCE_DATE_EPOCH E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH E2FSCK_TIME=$SOURCE_DATE_EPOCH

# Debian, and side by side our programs: the one waits for emulation, the other for the compiler.
made_of=$(find $here/debian $here/base $here/base.sh $here/base-hook.sh $here/native.sh $here/packages.txt -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c1-16)
base=$out/base-$made_of.tar
native=$out/native-$(cat $here/debian $here/native.sh | sha256sum | cut -c1-16)
# What is given away has the security updates of its day.
[ "$profile" = dev ] || [ -z "$(find "$base" -mmin +1440 2>/dev/null)" ] || is_fresh=yes
[ -z "$is_fresh" ] || rm -rf "$base" "$native"
debs=$out/debs-$profile
rm -rf "$debs"
$here/native.sh make "$native"
building=
if [ ! -e "$base" ]; then
    rm -f "$out"/base-*.tar
    (tests/tools/step.sh "Debian" $here/base.sh "$native" "$base.new.tar" && mv "$base.new.tar" "$base") &
    building=$!
fi
tests/tools/step.sh "packages" $here/packages.sh --arch arm64 --program waypost --program waypost-kiosk --profile "$profile" \
    $([ "$profile" != dev ] || echo --built) --out "$debs"
[ -z "$building" ] || wait "$building"

tests/tools/step.sh "root" $here/root.sh "$native" "$base" "$debs" "$out/parts"

phase=$SECONDS
tar --create --sort=name --mtime="@$SOURCE_DATE_EPOCH" --numeric-owner --xattrs --directory "$out/parts/root" . |
    tar2sqfs --quiet --force --compressor zstd --comp-extra level=$level --no-tail-packing "$out/root.squashfs"
rm -rf "$out/work" "$out/empty"
mkdir "$out/empty"
genimage --loglevel 1 --config $here/genimage.cfg --rootpath "$out/parts/card" --inputpath "$out" --outputpath "$out" \
    --tmppath "$out/work" >"$out/genimage.log" 2>&1 || { cat "$out/genimage.log" >&2 && exit 1; }
rm -rf "$out/work" "$out/empty"
zstd --quiet --force -T0 -$level "$out/waypost-arm64.img" -o "$out/waypost-arm64.img.zst"
echo "card: $((SECONDS - phase)) s"

[ -n "$url" ] || echo "without the entry for Raspberry Pi Imager, which says where the image can be had: make image URL=https://…" >&2
python3 $here/report.py "$out" "$profile" "$url"
echo "image: $((SECONDS - started)) s"
