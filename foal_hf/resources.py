"""Where the folders lie that people read in the repository and that the installed package carries along."""

from pathlib import Path


_PACKAGE_DIR = Path(__file__).resolve().parent


def dataset_scripts_dir() -> Path:
    """The folder with one sub-folder for each corpus: its loading script and its dataset card.

    Returns:
        `pathlib.Path`: The folder of the wheel, or of the checkout for an editable installation.

    Raises:
        FileNotFoundError: If the installation is incomplete.
    """
    return _find("dataset_scripts")


def model_cards_dir() -> Path:
    """The folder with the template of the model card and the card of each recipe.

    Returns:
        `pathlib.Path`: The folder of the wheel, or of the checkout for an editable installation.

    Raises:
        FileNotFoundError: If the installation is incomplete.
    """
    return _find("model_cards")


def _find(name: str) -> Path:
    # The wheel has the folder inside the package, a checkout beside it. A stranger's folder of the same name that
    # happens to stand beside an installed package is no checkout: that has our pyproject.toml too.
    inside, beside = _PACKAGE_DIR / name, _PACKAGE_DIR.parent / name
    if inside.is_dir():
        return inside
    if beside.is_dir() and (_PACKAGE_DIR.parent / "pyproject.toml").is_file():
        return beside
    raise FileNotFoundError(
        f"The folder {name!r} is neither in the package ({inside}) nor beside it ({beside}). "
        "The installation is incomplete: run `pip install --force-reinstall --no-deps foal-hf`, "
        "or `pip install -e .` in a checkout."
    )
