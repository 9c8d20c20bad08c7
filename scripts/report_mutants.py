#!/usr/bin/env python
"""Write tests/mutants.md from a run of mutmut: how many mutants each file has, and which ones no test notices.

    make mutants

A reason that the page gives for a survivor is kept. Exits with 1 where a survivor has no reason yet, or where fewer
than 90 % of the mutants are killed.
"""

import re
import sys
from collections import Counter
from pathlib import Path

from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files
from mutmut.utils.format_utils import orig_function_and_class_names_from_key


PAGE = Path(__file__).resolve().parents[1] / "tests" / "mutants.md"
START = "<!-- Written by scripts/report_mutants.py; a reason after a survivor's colon is kept. -->"
SURVIVOR = re.compile(r"^- ``(.+?)``: ``(.*?)`` → ``(.*?)``: (.*)$")
NO_REASON = "no reason yet"
LEAST_KILLED = 0.9
KILLED = ("killed", "timeout", "segfault")


def describe(path: Path, mutant: str) -> tuple[str, str, str]:
    """Function, and its line before and after."""
    name, class_name = orig_function_and_class_names_from_key(mutant)
    lines = get_diff_for_mutant(mutant, path=path).splitlines()[2:]
    before, after = (" ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
    return f"{class_name}.{name}" if class_name else name, before, after


def main() -> int:
    """Write the page; returns the exit code."""
    head, _, old = PAGE.read_text(encoding="utf-8").partition(START)
    reasons = {m.groups()[:3]: m[4] for m in map(SURVIVOR.match, old.splitlines()) if m}
    table = ["| file | mutants | killed | survived | called by no test |", "| --- | ---: | ---: | ---: | ---: |"]
    sections, total, lacking = [], Counter(), 0
    for path in sorted(walk_mutatable_files()):
        data = SourceFileMutationData(path=path)
        data.load()
        statuses = {mutant: status_by_exit_code[code] for mutant, code in data.exit_code_by_key.items()}
        if not statuses:
            continue
        if open_ones := [mutant for mutant, status in statuses.items() if status == "not checked"]:
            print(f"{path}: {len(open_ones)} mutants were not checked; the run is not complete.", file=sys.stderr)
            return 1
        survivors = [mutant for mutant, status in statuses.items() if status in ("survived", "suspicious", "no tests")]
        count = Counter(
            mutants=len(statuses),
            killed=sum(status in KILLED for status in statuses.values()),
            survived=sum(status in ("survived", "suspicious") for status in statuses.values()),
            uncalled=sum(status == "no tests" for status in statuses.values()),
        )
        total += count
        table.append(_row(f"`{path}`", count))
        entries = []
        for key in sorted({describe(path, mutant) for mutant in survivors}):
            reason = reasons.get(key, NO_REASON)
            lacking += reason == NO_REASON
            entries.append("- ``{}``: ``{}`` → ``{}``: {}".format(*key, reason))
        if entries:
            sections += [f"### {path}", "", *entries, ""]
    table.append(_row("all", total))
    PAGE.write_text("\n".join([head + START, "", *table, "", "## Survivors", "", *sections]), encoding="utf-8")
    score = total["killed"] / total["mutants"]
    print(
        f"{total['killed']} of {total['mutants']} mutants killed ({score:.1%}); {lacking} survivors without a reason."
    )
    return int(score < LEAST_KILLED or lacking > 0)


def _row(name: str, count: Counter) -> str:
    killed = f"{count['killed']} ({count['killed'] / count['mutants']:.0%})"
    return f"| {name} | {count['mutants']} | {killed} | {count['survived']} | {count['uncalled']} |"


if __name__ == "__main__":
    sys.exit(main())
