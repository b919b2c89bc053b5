# Runs a scenario within the small Debian, and writes down how it ended.
#   run.bash SCENARIO
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 HOME=/root
if bash "/scenarios/$1.sh" </dev/null >/trial/output 2>&1; then
    echo passed >/trial/outcome
else
    echo failed >/trial/outcome
fi
