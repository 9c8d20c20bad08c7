"""The house of the package, read from its sources: rooms, and which may import which."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import get_relative_import_files


PACKAGE = Path(__file__).parents[2] / "foal_hf"
TRAVELS = "_foal_net"

# A row a room, a group a level: the rooms that it imports, neither more nor less, all of them on levels above its own
# row. CONTRIBUTING.md says what each room is for.
HOUSE: list[dict[str, str]] = [
    {
        **{"foal_net": "", "metrics": "", "resources": "", "identity": "", "atomic_files": ""},
        **{"printable_text": "", "worker_server": "", "checkpoint_errors": ""},
        **{"default_checkpoint": ""},
    },
    {
        "results": "atomic_files metrics",
        "corpora": "atomic_files foal_net identity resources",
        "export": "checkpoint_errors default_checkpoint foal_net",
    },
    {
        "data": "corpora foal_net",
        "faces": "corpora foal_net identity",
        "synthetic": "atomic_files corpora",
        "hub/cards": "foal_net resources results",
        "plots": "atomic_files corpora foal_net metrics printable_text",
    },
    {
        "data/features": "atomic_files corpora data foal_net identity",
        "hub": "atomic_files corpora default_checkpoint foal_net hub/cards metrics results",
    },
    {
        "training": "data hub hub/cards metrics results",
        "registration": "checkpoint_errors default_checkpoint export faces foal_net hub",
    },
    {
        "experiments": "atomic_files checkpoint_errors corpora data data/features default_checkpoint foal_net hub "
        "hub/cards identity metrics plots registration resources results synthetic training",
        "annotate": "atomic_files corpora foal_net identity registration worker_server",
        "demo": "default_checkpoint foal_net plots registration",
    },
    {
        "cli": "annotate atomic_files checkpoint_errors corpora data/features default_checkpoint demo experiments "
        "export faces foal_net hub plots printable_text registration results worker_server",
        # Former places of public names, until 1.0.
        "calibration": "training",
        "features": "data/features",
        "folds": "corpora",
        "lora": "training",
    },
    {"__main__": "cli"},
]
ROOMS = {room: set(names.split()) for level in HOUSE for room, names in level.items()}
# What everybody who loads a checkpoint has. Anything else is imported where it is used.
THIRD_PARTIES = {"torch", "transformers", "numpy", "huggingface_hub"}
FILES = sorted(PACKAGE.rglob("*.py"))
TRAVELLING = sorted((PACKAGE / "foal_net").glob("*.py"))


def room_of(parts: tuple[str, ...]) -> str:
    """The innermost room that a file or module, named by its path in the package, lies in."""
    return "/".join(parts[:2]) if "/".join(parts[:2]) in ROOMS else parts[0].removesuffix(".py")


def imports_of(path: Path, *, top_level_only: bool = False) -> list[ast.Import | ast.ImportFrom]:
    """Import statements of a file, without those that only type checkers read."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    unread = {id(inner) for node in ast.walk(tree) if is_for_type_checkers(node) for inner in ast.walk(node)}
    return [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in unread]


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def modules_imported_by(path: Path) -> Iterator[Path]:
    """Files of the package that a file imports."""
    package = path.relative_to(PACKAGE).parent
    for node in imports_of(path):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            assert "foal_hf" not in ast.unparse(node).replace("foal_hf_command", ""), f"{path}: imports are relative"
            continue
        base = PACKAGE.joinpath(package, *[".."] * (node.level - 1), *(node.module or "").split(".")).resolve()
        for name in (base / alias.name for alias in node.names):
            yield next(
                file
                for file in (
                    name.with_suffix(".py"),
                    name / "__init__.py",
                    base.with_suffix(".py"),
                    base / "__init__.py",
                )
                if file.is_file()
            )


def rooms_imported_from(room: str) -> set[str]:
    files = [path for path in FILES if room_of(path.relative_to(PACKAGE).parts) == room]
    targets = {target for path in files for target in modules_imported_by(path)}
    return {room_of(target.relative_to(PACKAGE).parts) for target in targets} - {room}


def test_every_file_lies_in_a_room() -> None:
    assert {room_of(path.relative_to(PACKAGE).parts) for path in FILES} - {"__init__.py", "__init__"} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_what_its_row_says_and_uses_all_of_it(room: str) -> None:
    assert rooms_imported_from(room) == ROOMS[room]


def test_rooms_import_only_from_the_levels_below_them() -> None:
    below: set[str] = set()
    for level in HOUSE:
        for room, names in level.items():
            assert set(names.split()) <= below, room
        below |= set(level)


def test_files_import_each_other_in_one_direction() -> None:
    waiting = {path: set(modules_imported_by(path)) - {path} for path in FILES}
    while waiting:
        free = {path for path, targets in waiting.items() if not targets & waiting.keys()}
        assert free, f"these import each other: {sorted(path.name for path in waiting)}"
        waiting = {path: targets for path, targets in waiting.items() if path not in free}


def test_what_travels_lies_in_one_folder_with_nothing_else() -> None:
    assert [path for path in FILES if path.stem.endswith(TRAVELS)] == TRAVELLING
    assert {path.name for path in (PACKAGE / "foal_net").iterdir()} - {"__pycache__"} == {
        path.name for path in TRAVELLING
    }


def test_with_a_model_from_the_hub_comes_all_of_the_code() -> None:
    found = get_relative_import_files(PACKAGE / "foal_net" / f"modeling{TRAVELS}.py")
    assert {Path(file).name for file in found} >= {path.name for path in TRAVELLING} - {f"modeling{TRAVELS}.py"}


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
        tops = {name.split(".")[0] for name in names} if isinstance(node, ast.Import) or not node.level else set()
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
    tensors_only = [call for call in calls if "weights_only=True" in map(ast.unparse, call.keywords)]
    found = {ast.unparse(call.func) for call in calls if call not in tensors_only}
    assert not found & {"pickle.load", "pickle.loads", "torch.load", "joblib.load"}
    assert not [call for call in calls if any(word.arg == "allow_pickle" for word in call.keywords)]
