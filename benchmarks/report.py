"""Make RESULTS.md from what the benchmarks left: `python benchmarks/report.py`.

`python benchmarks/report.py FOLDER` prints the results in another folder, such as those of `make bench`. What a person
has to say of a result stands beside its JSON, in a file of the same name that ends in `.md`.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import RESULTS, show, table, target_line


# Results of the same section begin with the same word. On a GPU, too: what a GPU is asked to do.
SECTIONS = {
    "training": "Training",
    "inference": "Inference from features",
    "clip_to_label": "From a recording to a label",
    "wavlm_attention": "Attention of WavLM",
    "front_end": "Convolutions of the audio encoder",
    "stored_features": "Stored features",
    "annotate_files": "Annotating many files",
    "startup": "Start-up",
    "exported": "Exported checkpoints on a CPU",
    "ddp": "Two processes that train together",
    "timeline_memory": "Long recordings",
    "faces": "Faces",
    "missing_modality": "Without sound or without picture",
    "small_foal_net": "The default checkpoint",
    "estimate": "Estimates",
}
ON_GPU = ("training", "inference", "clip_to_label", "wavlm_attention")
INTRODUCTION = """# Results of the benchmarks

What `benchmarks/*.py` measured, one command each; `python benchmarks/report.py` makes this page from their JSON in
`benchmarks/results`. Times are medians over rounds in which the ways take turns, with quartiles in brackets. Weights
are random and inputs are noise or generated, unless a table says otherwise. "Limit" is what the same machine reached in
a plain matrix product and a plain copy in the same run."""


def main(argv: Sequence[str] | None = None) -> int:
    folders = sys.argv[1:] if argv is None else argv
    folder = Path(folders[0]) if folders else RESULTS
    if not any(folder.glob("*.json")):
        print(f"{folder} holds no results: run a benchmark first.", file=sys.stderr)
        return 2
    text = report(folder)
    if folders:
        print(text)
    else:
        (RESULTS.parent / "RESULTS.md").write_text(text, encoding="utf-8")
    return 0


def report(folder: Path) -> str:
    """The page of the results in a folder."""
    results = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))}
    parts = [INTRODUCTION, *summary(results)]
    for prefix, heading in SECTIONS.items():
        names = [name for name in results if section_of(name) == prefix]
        parts.append(f"## {heading}")
        for name in names:
            parts += part(results[name], folder / f"{name}.md")
        if not names:
            parts.append("Not measured.")
        elif prefix in ON_GPU and not any(results[name]["device"] != "cpu" for name in names):
            parts.append("On a GPU: not measured. `--device cuda --dtype bfloat16` does.")
    for name in results:
        if section_of(name) is None:
            parts += part(results[name], folder / f"{name}.md")
    return "\n\n".join(parts) + "\n"


def section_of(name: str) -> str | None:
    """The longest of the sections whose word a result begins with."""
    return max((prefix for prefix in SECTIONS if name.startswith(prefix)), key=len, default=None)


def summary(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Every target in one table."""
    rows = []
    for result in results.values():
        for each in result["targets"]:
            bounds = [("at least", each["at_least"]), ("at most", each["at_most"])]
            asked = ", ".join(f"{how} {show(bound, each['unit'])}" for how, bound in bounds if bound is not None)
            met = {True: "yes", False: "**no**", None: ""}[each["met"]]
            rows.append([each["what"], result["device"], asked, show(each["value"], each["unit"]), met])
    columns = dict.fromkeys(("target", "device", "asked for", "measured", "met"), "")
    return [table(columns, rows)] if rows else []


def part(result: Mapping[str, Any], more: Path) -> list[str]:
    """One table and everything that is said of it."""
    text = [f"### {result['title']}", table(result["columns"], result["rows"])]
    if result["targets"]:
        text.append("\n".join(map(target_line, result["targets"])))
    text += result["notes"]
    if more.is_file():
        text.append(more.read_text(encoding="utf-8").strip())
    if result["limits"]:
        operations, num_bytes = result["limits"]["flops_per_second"], result["limits"]["bytes_per_second"]
        text.append(
            f"Limit: {show(operations / 1e9, 'GFLOP/s')} in a matrix product, {show(num_bytes, 'B')}/s in a copy."
        )
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    form = "The short form, on small sizes: not the result. " if result["short"] else ""
    text.append(f"{form}{result['machine']}, {result['dtype']}; {versions}; {result['date']}. `{result['command']}`")
    return text


if __name__ == "__main__":
    raise SystemExit(main())
