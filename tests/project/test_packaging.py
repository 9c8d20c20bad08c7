"""What is in the wheel, what the version files promise, and what no tracked file may say."""

import importlib.metadata
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections import deque
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from requirements import need

from foal_hf import resources


ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DEPENDENCIES = {canonicalize_name((r := Requirement(text)).name): r for text in PROJECT["dependencies"]}
EXTRAS = [Requirement(text) for texts in PROJECT["optional-dependencies"].values() for text in texts]


def read_pins(name: str) -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints" / name).read_text().splitlines() if not line.startswith("#")]
    return {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines}


TESTED, OLDEST = read_pins("tested.txt"), read_pins("oldest.txt")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        folder,
        ROOT,
    ]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = folder.glob("foal_hf-*.whl")
    return path


@pytest.fixture(scope="module")
def wheel_names(wheel) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_has_every_file_of_the_package_and_of_the_two_folders(wheel_names):
    tracked = [name for name in git_files() if (ROOT / name).is_file()]
    package = {name for name in tracked if name.startswith("foal_hf/")}
    folders = {f"foal_hf/{name}" for name in tracked if name.startswith(("dataset_scripts/", "model_cards/"))}
    assert {
        "foal_hf/py.typed",
        "foal_hf/dataset_scripts/README.md",
        "foal_hf/model_cards/README.md",
    } <= package | folders
    assert package | folders <= wheel_names


def test_the_wheel_has_nothing_else_at_its_top(wheel_names):
    top = {"foal_hf", "foal_hf_command.py", f"foal_hf-{PROJECT['version']}.dist-info"}
    assert {name.split("/")[0] for name in wheel_names} == top
    assert not [name for name in wheel_names if name.endswith(".pyc") or "/." in name]


def test_no_distribution_of_the_code_has_the_weights_which_have_another_licence(wheel_names, tmp_path):
    need("checkout")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (sdist,) = tmp_path.glob("foal_hf-*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = [*wheel_names, *archive.getnames()]
    assert any(name.endswith("/foal_hf/py.typed") for name in names)
    assert not [name for name in names if "foal_net_small" in name or "foal-net-small" in name]


def test_the_installed_wheel_finds_its_folders_and_its_requirements(wheel, tmp_path):
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", target, wheel]
    subprocess.run(install, check=True, capture_output=True)
    code = (
        "from foal_hf import resources\n"
        "from foal_hf.cli import doctor\n"
        "print(resources.dataset_scripts_dir(), resources.model_cards_dir(), sep='\\n')\n"
        "print(doctor._requirements()['transformers'])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(target)},
        check=True,
        capture_output=True,
        text=True,
    )
    scripts, cards, specifier = result.stdout.splitlines()
    assert (Path(scripts) / "README.md").samefile(target / "foal_hf" / "dataset_scripts" / "README.md")
    assert (Path(cards) / "README.md").samefile(target / "foal_hf" / "model_cards" / "README.md")
    assert SpecifierSet(specifier) == DEPENDENCIES["transformers"].specifier
    program = [sys.executable, target / "bin" / "foal-hf", "--version"]
    started = subprocess.run(
        program, cwd=tmp_path, env={"PYTHONPATH": str(target)}, check=True, capture_output=True, text=True
    )
    assert started.stdout == f"foal-hf {PROJECT['version']}\n"


def test_a_checkout_finds_its_folders():
    assert resources.dataset_scripts_dir() == ROOT / "dataset_scripts"
    assert resources.model_cards_dir() == ROOT / "model_cards"


def test_a_strangers_folder_beside_the_package_is_not_taken(tmp_path, monkeypatch):
    (tmp_path / "dataset_scripts").mkdir()
    monkeypatch.setattr(resources, "_PACKAGE_DIR", tmp_path / "foal_hf")
    with pytest.raises(FileNotFoundError, match="installation is incomplete"):
        resources.dataset_scripts_dir()


@pytest.mark.parametrize("name", ["tested.txt", "oldest.txt"])
def test_pins_hold_on_every_platform(name):
    lines = [line for line in (ROOT / "constraints" / name).read_text().splitlines() if not line.startswith("#")]
    # A build label such as "+cpu", a path or an address would bind the file to one kind of machine.
    assert not [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==\d[\w.]*", line)]
    assert lines == sorted(lines, key=str.lower)


@pytest.mark.parametrize("name", sorted(DEPENDENCIES))
def test_the_lower_bound_is_the_oldest_tested_version(name):
    bounds = [s.version for s in DEPENDENCIES[name].specifier if s.operator == ">="]
    if name == "torch":
        # Older releases exist as large CUDA builds only where no CPU build is at hand: see constraints/oldest.txt.
        assert OLDEST["torch"] == TESTED["torch"]
        assert OLDEST["torch"] in SpecifierSet(f">={bounds[0]}")
    else:
        assert bounds == [OLDEST[name]]


@pytest.mark.parametrize("requirement", [*DEPENDENCIES.values(), *EXTRAS], ids=str)
def test_the_tested_version_is_in_the_supported_range(requirement):
    if requirement.name != PROJECT["name"]:
        assert TESTED[canonicalize_name(requirement.name)] in requirement.specifier


def test_everything_that_an_installation_pulls_in_is_pinned():
    queue, seen = deque([*DEPENDENCIES.values(), *EXTRAS]), set()
    while queue:
        requirement = queue.popleft()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in seen or name == PROJECT["name"]:
            continue
        seen.add(key)
        try:
            wanted = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            wanted = []  # of an extra that the tests do without
        for text in wanted:
            child = Requirement(text)
            extras = requirement.extras or {""}
            if not child.marker or any(child.marker.evaluate({"extra": extra}) for extra in extras):
                queue.append(child)
    # torch's own libraries for CUDA follow the build of torch that the machine takes.
    missing = {name for name, _ in seen if name not in TESTED and not name.startswith(("nvidia-", "cuda-", "triton"))}
    assert len(seen) > 41
    assert not missing


# Stands in tests of what must not be published.
MADE_UP = "/home/somebody/"


def test_no_tracked_file_names_a_folder_of_one_machine():
    folders = re.compile(r"(?<![\w./-])/(?:root|work|home|tmp|Users)/\w")
    found = []
    for name in git_files():
        path = ROOT / name
        if path.is_file() and path.suffix not in (".safetensors", ".mp4", ".png", ".wav", ".npz"):
            text = path.read_text(errors="replace").replace(MADE_UP, "")
            found += [f"{name}: {match[0]}" for match in folders.finditer(text)]
    assert not found


def git_files() -> list[str]:
    need("checkout")
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True)
    return listing.stdout.splitlines()
