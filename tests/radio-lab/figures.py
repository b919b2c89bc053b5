"""Reads what the lab's bench says; writes each figure as a line of JSON, and the rest and a table for people to standard error."""

import json
import sys


def main():
    missed = count = 0
    rows = []
    for line in sys.stdin:
        if not line.lstrip().startswith('{"figure":'):
            print(line, end="", file=sys.stderr, flush=True)
            continue
        figure = json.loads(line)
        print(line.strip(), flush=True)
        count += 1
        missed += figure["holds"] is False
        target = "" if figure["target"] is None else f"≥ {figure['target']}" if figure["more"] else f"≤ {figure['target']}"
        holds = {True: "yes", False: "no", None: ""}[figure["holds"]]
        rows.append(f"{figure['figure']:32} {figure['value']:>8} {figure['unit']:14} {target:>8}  {holds}")
        rows += [f"    {beside}" for beside in figure["beside"]]
    print(f"{'figure':32} {'value':>8} {'unit':14} {'target':>8}  holds", *rows, sep="\n", file=sys.stderr)
    print(f"\n{count} figures, {missed} missed", file=sys.stderr)


main()
