#!/usr/bin/env bash
# Makes the Debian packages of waypost, waypost-phone, waypost-destination and waypost-kiosk. They run on Debian 12 and all later ones.
#   images/packages.sh                 for arm64 and amd64, into target/debian/
#     --arch arm64|amd64               for this one only; may be repeated
#     --profile dev                    programs as in development, which are built faster; default: release
#     --built                          takes what of this machine's own architecture is needed as `cargo build --workspace
#                                      --all-targets` has just left it: programs in the dev profile, manual pages
#     --program NAME                   the package of this program only; may be repeated
#     --revision N                     of the packages' version; default: 1
#     --out FOLDER
# Prints the packages' paths.
set -euo pipefail
cd "$(dirname "$0")/.."
here=images
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
# Libraries in C are built anew where the time changes, with all that uses them: their compiler is not told it.
cargo=(env -u SOURCE_DATE_EPOCH "${CARGO:-cargo}")
declare -A crate_of=([waypost]=waypost-gateway [waypost-phone]=waypost-phone [waypost-destination]=waypost-destination [waypost-kiosk]=waypost-kiosk)
own=$(dpkg --print-architecture)

fail() {
    echo "$*" >&2
    exit 1
}

archs=()
programs=()
profile=release
is_built=
revision=1
out=$target/debian
while [ $# -gt 0 ]; do
    case $1 in
    --arch) archs+=("$2") && shift ;;
    --profile) profile=$2 && shift ;;
    --program) programs+=("$2") && shift ;;
    --built) is_built=yes ;;
    --revision) revision=$2 && shift ;;
    --out) out=$(realpath -m "$2") && shift ;;
    *) fail "there is no option $1" ;;
    esac
    shift
done
[ ${#archs[@]} -gt 0 ] || archs=(amd64 arm64)
[ ${#programs[@]} -gt 0 ] || programs=(waypost waypost-phone waypost-destination waypost-kiosk)
crates=()
for program in "${programs[@]}"; do
    [ -n "${crate_of[$program]:-}" ] || fail "there is no program $program here; there are ${!crate_of[*]}"
    crates+=("${crate_of[$program]}")
done
packages=("${crates[@]/#/--package=}")
[ "$profile" = dev ] || [ -z "$is_built" ] || [[ " ${archs[*]} " != *" $own "* ]] ||
    fail "--built has programs of the dev profile; for others of $own leave it out"
# Cargo's folder of the dev profile has another name.
folder=${profile/#dev/debug}

# Everything in a package has the time of the commit, so that the same sources give the same package.
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    # Root, as whom this may run, may not be the owner of the sources.
    if [ -e .git ]; then
        SOURCE_DATE_EPOCH=$(git -c safe.directory="$PWD" log -1 --format=%ct)
    else
        SOURCE_DATE_EPOCH=$(stat -c %Y CHANGELOG.md)
    fi
fi
export SOURCE_DATE_EPOCH
tests/tools/cargo-tool.sh cargo-deb ^3.8
export PATH="$target/tools/bin:$PATH"

# The pages are made by a program of this machine's, whichever the packages are for.
pages=$target/debug/waypost-pages
[ -n "$is_built" ] || "${cargo[@]}" build --locked --quiet -p waypost-pages >&2

triple_of() { # architecture
    case $1 in
    arm64) echo aarch64-unknown-linux-gnu ;;
    amd64) echo x86_64-unknown-linux-gnu ;;
    *) fail "there is no architecture $1 here; there are arm64 and amd64" ;;
    esac
}

declare -A built
for arch in "${archs[@]}"; do
    triple=$(triple_of "$arch")
    # Programs that are linked on a newer Debian than the oldest that they are for do not run there.
    if [ "$arch" = "$own" ] && { [ -n "$is_built" ] || "$here/oldest.sh" --here; }; then
        [ -n "$is_built" ] || "${cargo[@]}" build --locked --quiet --profile "$profile" "${packages[@]}" >&2
        built[$arch]=$target/$folder
    else
        env -u SOURCE_DATE_EPOCH "$here/cross/cargo.sh" --arch "$arch" build --locked --quiet --profile "$profile" "${packages[@]}" >&2
        built[$arch]=$target/$triple/$folder
    fi
done

# One at a time: they share the folder that the packages' manifests name.
mkdir -p build "$target"
exec 9>build/package.lock
flock 9
stage=build/package
rm -rf "$stage"
mkdir -p "$stage/bin" "$out"

version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"$/\1/p' Cargo.toml)-$revision
for program in "${programs[@]}"; do
    sed -e "s/PACKAGE/$program/" -e "s/VERSION/$version/" -e "s/DATE/$(LC_ALL=C date -Ru -d "@$SOURCE_DATE_EPOCH")/" \
        "$here/deb/changelog.in" >"$stage/$program.changelog"
done

"$pages" --date "$(date -u -d "@$SOURCE_DATE_EPOCH" +%F)" "$stage/pages"

for arch in "${archs[@]}"; do
    triple=$(triple_of "$arch")
    strip=strip
    [ "$arch" = "$own" ] || strip=${triple/-unknown/}-strip
    for program in "${programs[@]}"; do
        "$strip" --remove-section=.comment -o "$stage/bin/$program" "${built[$arch]}/$program"
        "$here/oldest.sh" "$stage/bin/$program"
    done
    for program in "${programs[@]}"; do
        # Of a version before.
        rm -f "$out/${program}"_*_"$arch".deb
    done
    for package in "${crates[@]}"; do
        # It builds nothing: the programs are there. Without compression to speak of where it is for tests.
        cargo-deb -q -p "$package" --locked --no-build --no-strip --target "$triple" --deb-version "$version" \
            $([ "$profile" = release ] || echo --fast) --output "$out/"
    done
done
