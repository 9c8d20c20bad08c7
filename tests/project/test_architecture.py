"""The import arrows of the package, read from its sources."""

import ast
import sys
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import get_relative_import_files


PACKAGE = Path(__file__).parent.parent / "foal_hf"
TRAVELS = "_foal_net"

# What each file may import of the package. Arrows point from the left to the right, so there is no way round in a ring.
ARROWS: dict[str, set[str]] = {
    "checkpoint_foal_net": set(),
    "configuration_foal_net": {"checkpoint_foal_net"},
    "losses_foal_net": set(),
    "layers_foal_net": {"configuration_foal_net"},
    "front_end_foal_net": set(),
    "wavlm_attention_foal_net": set(),
    "encoders_foal_net": {"configuration_foal_net", "front_end_foal_net", "wavlm_attention_foal_net"},
    "modeling_foal_net": {
        "checkpoint_foal_net",
        "configuration_foal_net",
        "encoders_foal_net",
        "layers_foal_net",
        "losses_foal_net",
    },
    "sources_foal_net": set(),
    "arrays_foal_net": {"sources_foal_net"},
    "forward_foal_net": set(),
    "decoding_foal_net": {"arrays_foal_net", "sources_foal_net"},
    "ordered_tracks_foal_net": {"arrays_foal_net", "decoding_foal_net", "forward_foal_net", "sources_foal_net"},
    "tracks_foal_net": {
        "arrays_foal_net",
        "decoding_foal_net",
        "forward_foal_net",
        "ordered_tracks_foal_net",
        "sources_foal_net",
    },
    "media_foal_net": {"sources_foal_net", "tracks_foal_net"},
    "video_processing_foal_net": {"media_foal_net", "arrays_foal_net", "sources_foal_net"},
    "processing_foal_net": {
        "checkpoint_foal_net",
        "media_foal_net",
        "video_processing_foal_net",
        "sources_foal_net",
    },
    "windows_foal_net": {"forward_foal_net", "media_foal_net", "sources_foal_net"},
    "timeline_foal_net": set(),
    "evidence_foal_net": {"arrays_foal_net"},
    "recordings_foal_net": {"evidence_foal_net", "media_foal_net", "timeline_foal_net", "windows_foal_net"},
    "pipeline_foal_net": {
        "checkpoint_foal_net",
        "evidence_foal_net",
        "recordings_foal_net",
        "sources_foal_net",
        "timeline_foal_net",
        "video_processing_foal_net",
    },
    "exported": {"configuration_foal_net", "encoders_foal_net", "modeling_foal_net"},
    "export": {"encoders_foal_net", "exported", "modeling_foal_net", "processing_foal_net"},
    "formats": {"timeline_foal_net"},
    "annotate": {
        "evidence_foal_net",
        "media_foal_net",
        "media_headers",
        "pipeline_foal_net",
        "recordings_foal_net",
        "registration",
        "sources_foal_net",
        "timeline_foal_net",
    },
    "demo": {
        "formats",
        "media_foal_net",
        "plots",
        "recordings_foal_net",
        "registration",
        "timeline_foal_net",
    },
    "calibration": {"metrics"},
    "plots_reliability": {"metrics", "plots"},
    "hub_metrics": {"hub_commit", "metrics"},
    "recipe": {"configuration_foal_net", "training_arguments"},
    "protocols": {
        "calibration",
        "cards",
        "configuration_foal_net",
        "data",
        "features",
        "folds",
        "hub",
        "metrics",
        "modeling_foal_net",
        "plots",
        "plots_reliability",
        "processing_foal_net",
        "recipe",
        "resources",
        "results",
        "tiny",
        "training",
        "training_arguments",
        "training_checks",
        "training_facts",
    },
    "features": {
        "arrays_foal_net",
        "corpus_schema",
        "data",
        "encoders_foal_net",
        "media_foal_net",
        "processing_foal_net",
        "sources_foal_net",
    },
    "sampling": set(),
    "training_arguments": set(),
    "training_checks": {"metrics"},
    "training": {"cards", "hub", "metrics", "results", "sampling", "training_arguments", "training_checks"},
    "lora": set(),
    "results": {"metrics"},
    "cards": {"configuration_foal_net", "modeling_foal_net", "resources", "results"},
    "latency": {"results"},
    "training_facts": {"latency", "processing_foal_net", "results"},
    "tiny": {
        "configuration_foal_net",
        "modeling_foal_net",
        "processing_foal_net",
        "synthetic",
        "video_processing_foal_net",
    },
    "hub_commit": set(),
    "hub": {
        "cards",
        "configuration_foal_net",
        "hub_commit",
        "modeling_foal_net",
        "processing_foal_net",
        "results",
    },
    "registration": {
        "checkpoint_foal_net",
        "configuration_foal_net",
        "exported",
        "modeling_foal_net",
        "pipeline_foal_net",
        "processing_foal_net",
        "video_processing_foal_net",
    },
    "corpus_schema": set(),
    "media_headers": set(),
    "folds": set(),
    "corpus_scripts": {"resources"},
    "folder_table": {"media_headers"},
    "folder_corpus": {"corpus_schema", "folder_table", "folds", "media_headers"},
    "materialize": {"corpus_schema", "media_foal_net", "sources_foal_net", "synthetic"},
    "corpora": {"corpus_schema", "corpus_scripts", "folder_corpus", "materialize"},
    "corpus_report": {"corpora", "corpus_schema", "media_foal_net", "media_headers", "sources_foal_net"},
    "corpus_plots": {"corpus_report", "plots"},
    "hub_datasets": {"corpora", "corpus_schema", "corpus_scripts", "hub_commit"},
    "data": {"corpus_schema", "processing_foal_net"},
    "metrics": set(),
    "plots": {"metrics"},
    "resources": set(),
    "synthetic": set(),
    "doctor": set(),
    "quickstart": {
        "cards",
        "data",
        "latency",
        "metrics",
        "modeling_foal_net",
        "plots",
        "processing_foal_net",
        "registration",
        "results",
        "synthetic",
        "tiny",
        "training_facts",
    },
    "commands": {
        "annotate",
        "corpora",
        "corpus_plots",
        "corpus_report",
        "demo",
        "doctor",
        "export",
        "features",
        "formats",
        "hub",
        "hub_datasets",
        "hub_metrics",
        "folds",
        "modeling_foal_net",
        "plots",
        "processing_foal_net",
        "protocols",
        "quickstart",
        "recipe",
        "registration",
        "results",
        "timeline_foal_net",
    },
    "cli": {"commands", "registration"},
    "__main__": {"cli"},
}
# What everybody who loads a checkpoint has. Anything else is imported where it is used.
THIRD_PARTIES = {"torch", "transformers", "numpy", "huggingface_hub"}
FILES = sorted(PACKAGE.rglob("*.py"))
TRAVELLING = sorted(PACKAGE.glob(f"*{TRAVELS}.py"))


def part_of(path: Path) -> str:
    """A file, or the folder that it lies in, under the name that the arrows use."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path, *, top_level_only: bool = False) -> list[ast.Import | ast.ImportFrom]:
    """Import statements of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    unread = {id(inner) for node in ast.walk(tree) if is_for_type_checkers(node) for inner in ast.walk(node)}
    return [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in unread]


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def parts_imported_by(path: Path) -> set[str]:
    """Parts of the package that a file imports."""
    depth = len(path.relative_to(PACKAGE).parts)
    parts = set()
    for node in imports_of(path):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            parts |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
        parts |= {name.split(".")[1] for name in names if node_is_absolute(node) and name.startswith("foal_hf.")}
    return parts


def node_is_absolute(node: ast.Import | ast.ImportFrom) -> bool:
    return isinstance(node, ast.Import) or node.level == 0


def test_every_part_of_the_package_has_its_arrows() -> None:
    assert {part_of(path) for path in FILES} - {"__init__"} == set(ARROWS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_follow_the_arrows(path: Path) -> None:
    part = part_of(path)
    if part == "__init__":
        assert parts_imported_by(path) == set()  # names are imported when they are asked for
    else:
        assert parts_imported_by(path) - {part} <= ARROWS[part]


@pytest.mark.parametrize("part", ["configuration", "modeling", "pipeline", "processing"])
def test_with_a_part_of_a_checkpoint_comes_all_of_its_code(part: str) -> None:
    found = get_relative_import_files(PACKAGE / f"{part}{TRAVELS}.py")
    assert {Path(file).name for file in found} >= {path.name for path in TRAVELLING} - {f"{part}{TRAVELS}.py"}


def test_the_arrows_have_no_ring() -> None:
    done: set[str] = set()
    while len(done) < len(ARROWS):
        free = {part for part, targets in ARROWS.items() if targets <= done} - done
        assert free, f"these import each other: {sorted(set(ARROWS) - done)}"
        done |= free


@pytest.mark.parametrize("path", TRAVELLING, ids=lambda path: path.stem)
def test_a_travelling_file_needs_only_its_siblings_and_what_everybody_has(path: Path) -> None:
    for node in imports_of(path):
        if isinstance(node, ast.ImportFrom) and node.level:
            # The form that transformers copies to the Hub along with the file, and loads again.
            assert node.level == 1 and node.module and node.module.endswith(TRAVELS), ast.unparse(node)
        else:
            assert "foal_hf" not in ast.unparse(node)
    for node in imports_of(path, top_level_only=True):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
        tops = {name.split(".")[0] for name in names if node_is_absolute(node)}
        assert tops <= THIRD_PARTIES | set(sys.stdlib_module_names), ast.unparse(node)


@pytest.mark.parametrize("path", TRAVELLING, ids=lambda path: path.stem)
def test_a_travelling_file_asks_no_isinstance_of_our_classes(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
            # A class of the same file is the same class; one of a sibling may exist twice.
            asked = {name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)} - own
            assert not {name for name in asked if name.startswith("FoalNet") or name in ("Clip", "MediaFile")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_nothing_loads_pickles(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not {ast.unparse(call.func) for call in calls} & {"pickle.load", "pickle.loads", "torch.load", "joblib.load"}
    assert not [call for call in calls if any(word.arg == "allow_pickle" for word in call.keywords)]
