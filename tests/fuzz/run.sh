#!/usr/bin/env bash
# Fuzzes each target for its share of the minutes, and prints what came of it; fails where anything crashed. docs/fuzzing.md.
#   tests/fuzz/run.sh MINUTES [TARGET...]
#   tests/fuzz/run.sh keep [TARGET...]      puts into the corpus what reaches code that nothing in it reaches
# What was found lies in target/fuzz/found, and is where the next run begins.
set -euo pipefail
cd "$(dirname "$0")/../.."
what=$1
shift
folder=$(realpath -m "${CARGO_TARGET_DIR:-target}")/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')

# What libFuzzer wants to see, of our code and of the libraries'; build scripts go without, by --target.
export RUSTFLAGS="-Cpasses=sancov-module"
for option in level=4 inline-8bit-counters pc-table trace-compares; do
    RUSTFLAGS+=" -Cllvm-args=-sanitizer-coverage-$option"
done
# The libraries are those of the programs.
cp Cargo.lock tests/fuzz/Cargo.lock
"${CARGO:-cargo}" build --quiet --release --manifest-path tests/fuzz/Cargo.toml --target "$host" --target-dir "$folder"
fuzzer=$folder/$host/release/waypost-fuzz
mapfile -t targets < <("$fuzzer" 2>/dev/null)
[ $# -eq 0 ] || targets=("$@")

if [ "$what" = keep ]; then
    for target in "${targets[@]}"; do
        mkdir -p "$folder/found/$target"
        WAYPOST_TARGET=$target "$fuzzer" -set_cover_merge=1 -use_counters=0 -max_len=1024 \
            "tests/fuzz/corpus/$target" "$folder/found/$target" 2>"$folder/$target.txt"
    done
    exit
fi

seconds=$((what * 60 / ${#targets[@]}))
echo "${#targets[@]} targets, $seconds s each, $(rustc --version | cut -d' ' -f1,2)"
row='| %-13s | %10s | %6s | %8s | %6s | %7s |\n'
printf "$row" target executions edges features caught crashes
printf '|---|--:|--:|--:|--:|--:|\n'
crashed=()
for target in "${targets[@]}"; do
    log=$folder/$target.txt
    rm -rf "$folder/crashes/$target"
    mkdir -p "$folder/found/$target" "$folder/crashes/$target"
    WAYPOST_TARGET=$target "$fuzzer" -max_total_time=$seconds -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
        -artifact_prefix="$folder/crashes/$target/" "$folder/found/$target" "tests/fuzz/corpus/$target" 2>"$log" || true
    found=("$folder/crashes/$target"/*)
    [ -e "${found[0]}" ] || found=()
    crashed+=("${found[@]}")
    last() { grep -o "$1 [0-9]*" "$log" | tail -n 1 | cut -d' ' -f2; }
    # Panics in libraries, by their places: those of the OpenPGP library are caught.
    caught=$(grep -c '^panicked at .*/registry/' "$log") || true
    printf "$row" "$target" "$(grep -o 'executed_units: *[0-9]*' "$log" | tr -dc 0-9)" "$(last cov:)" "$(last ft:)" \
        "$caught" "${#found[@]}"
done
[ ${#crashed[@]} -eq 0 ] || {
    printf 'crashed with: %s\n' "${crashed[@]}"
    exit 1
}
