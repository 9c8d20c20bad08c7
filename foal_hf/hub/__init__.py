"""Checkpoints to the Hub: their files and card in one commit."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import CommitInfo, HfApi, ModelCard
from huggingface_hub.errors import EntryNotFoundError, RevisionNotFoundError
from safetensors import SafetensorError, safe_open
from transformers.utils import CONFIG_NAME, PROCESSOR_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from ..atomic_files import write_file
from ..default_checkpoint import resolve_checkpoint
from ..foal_net.configuration_foal_net import FoalNetConfig
from ..foal_net.modeling_foal_net import FoalNetForEmotionClassification, FoalNetModel
from ..foal_net.processing_foal_net import FoalNetProcessor
from ..results import Results
from .cards import is_made_card, model_card
from .commit import Push, commit_folder, explained_hub_errors, upload_folder


CARD_NAME = "README.md"
RESULTS_NAME = "results.json"
# Files of an earlier push that a new one does not overwrite: code and weights under other names.
_STALE = ("*_foal_net.py", "model*.safetensors", SAFE_WEIGHTS_INDEX_NAME, "pytorch_model*", "training_args.bin")


def push_checkpoint(
    checkpoint: str | os.PathLike[str],
    repo_id: str,
    *,
    results: str | os.PathLike[str] | None = None,
    private: bool | None = None,
    revision: str | None = None,
    dry_run: bool = False,
    token: str | bool | None = None,
    commit_message: str | None = None,
) -> Push:
    """Publish a checkpoint: weights, config, processor, card and the code that loads them, in one commit.

    It pushes the weights (safetensors), `config.json`, `processor_config.json`, the card, the results file and the code
    of this package; nothing else, such as the state of a Trainer, which contains pickles. Outdated files of an earlier
    push are deleted in the same commit. An interrupted push leaves the repository unchanged and can be repeated.

    Args:
        checkpoint (`str` or `os.PathLike`): Folder with a saved model and its processor; `"foal-net-small"` for
            the installed default checkpoint.
        repo_id (`str`): Name of the repository, `"organisation/name"`; created if missing.
        results (`str` or `os.PathLike`, *optional*): Results file of the run, for the card. Without it, a hand-written
            `README.md` is the card. If there is none, or a generated one, the card is made from the folder's
            `results.json`; without that it reports that nothing was measured.
        private (`bool`, *optional*): Whether a new repository is private; the Hub's default for the owner.
        revision (`str`, *optional*): Branch; created if missing.
        dry_run (`bool`, defaults to `False`): List the files without any request to the Hub.
        token (`str` or `bool`, *optional*): Instead of the stored token.
        commit_message (`str`, *optional*): Subject of the commit.

    Returns:
        [`~foal_hf.hub.commit.Push`]: The files with their sizes, and the address of the commit.

    Raises:
        FileNotFoundError: If a part of the checkpoint is missing.
        ValueError: If the folder holds another model, or damaged weights, or weights that do not fit the config.
        PermissionError: If the token may not do this.
        RuntimeError: If the Hub cannot be reached or refuses for another reason.

    Example:

    ```python
    >>> from foal_hf import push_checkpoint

    >>> push_checkpoint("outputs/checkpoint", "org/foal-net", private=True)  # doctest: +SKIP
    ```
    """
    source = Path(resolve_checkpoint(checkpoint))
    config = _load_config(source)
    processor = _load_processor(source)
    weights = _list_weights(source)
    check_weights(source, config, weights)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder)
        config.save_pretrained(target)
        processor.save_pretrained(target)
        for name in weights:
            _link(source / name, target / name)
        found = Path(results) if results is not None else source / RESULTS_NAME
        measured = Results.load(found) if results is not None or _is_results(found) else None
        if measured is not None:
            measured.save(target / RESULTS_NAME)
        card = _own_card(source / CARD_NAME) if results is None else None
        (target / CARD_NAME).write_text(card or model_card(config, measured, repo_id=repo_id), encoding="utf-8")
        return commit_folder(
            target,
            repo_id,
            private=private,
            revision=revision,
            dry_run=dry_run,
            token=token,
            message=commit_message or "Upload Foal-Net checkpoint",
            delete_patterns=_STALE,
        )


def push_part(
    part: Any,
    repo_id: str,
    *,
    commit_message: str | None = None,
    commit_description: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    max_shard_size: int | str = "50GB",
    tags: list[str] | None = None,
) -> CommitInfo:
    """`push_to_hub` of a model, processor or pipeline: save it, and upload the files in one commit.

    An existing card of the repository stays; otherwise a model gets one. Arguments as in transformers.
    """
    api = HfApi(token=token)
    with explained_hub_errors(repo_id), tempfile.TemporaryDirectory() as folder:
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        part.save_pretrained(folder, max_shard_size=max_shard_size)
        _keep_card(api, repo_id, revision, Path(folder, CARD_NAME), tags)
        has_weights = Path(folder, CONFIG_NAME).is_file()
        commit, _ = upload_folder(
            api,
            folder,
            repo_id,
            private=private,
            revision=revision,
            message=commit_message or f"Upload {type(part).__name__}",
            description=commit_description,
            create_pr=create_pr,
            delete_patterns=_STALE if has_weights else _STALE[:1],
        )
    return commit


def write_card(model: Any, folder: str | os.PathLike[str]) -> None:
    """Write the card of a saved model unless the folder has one."""
    path = Path(folder, CARD_NAME)
    if not path.exists():
        write_file(path, model_card(model.config))


def check_weights(folder: Path, config: FoalNetConfig, names: list[str]) -> None:
    """Check the headers of weight files; no tensor is read.

    Args:
        folder (`pathlib.Path`): Folder of the files.
        config (`FoalNetConfig`): Determines the expected weights.
        names (`list[str]`): The weight files.

    Raises:
        ValueError: If a file is damaged, or weights are missing or of another shape.
    """
    shapes: dict[str, list[int]] = {}
    for name in (name for name in names if name.endswith(".safetensors")):
        try:
            with safe_open(folder / name, framework="pt") as file:
                shapes |= {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118 (no dict)
        except SafetensorError as error:
            raise ValueError(f"{folder / name} is damaged or truncated ({error}). Save the model again.") from error
    is_headless = (config.architectures or [""])[0] == FoalNetModel.__name__
    with torch.device("meta"):
        model = (FoalNetModel if is_headless else FoalNetForEmotionClassification)(config)
    wrong = [name for name, weight in model.state_dict().items() if shapes.get(name) != list(weight.shape)]
    if wrong:
        raise ValueError(
            f"The weights in {folder} do not fit its {CONFIG_NAME}: {len(wrong)} are missing or of another shape, such "
            f"as {wrong[0]}. Save model and config together, with `model.save_pretrained`."
        )


def _load_config(folder: Path) -> FoalNetConfig:
    path = folder / CONFIG_NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} is not a checkpoint: {CONFIG_NAME} is missing. Pass a folder with a saved model."
        )
    model_type = json.loads(path.read_text(encoding="utf-8")).get("model_type")
    if model_type != FoalNetConfig.model_type:
        raise ValueError(f"{folder} has a model of type {model_type!r}; expected {FoalNetConfig.model_type!r}.")
    return FoalNetConfig.from_pretrained(folder)


def _load_processor(folder: Path) -> FoalNetProcessor:
    if not (folder / PROCESSOR_NAME).is_file():
        raise FileNotFoundError(
            f"{folder} has no {PROCESSOR_NAME}, which is needed to use the checkpoint on recordings. Save the "
            f"processor there: `processor.save_pretrained({os.fspath(folder)!r})`."
        )
    return FoalNetProcessor.from_pretrained(folder)


def _list_weights(folder: Path) -> list[str]:
    index = folder / SAFE_WEIGHTS_INDEX_NAME
    if (folder / SAFE_WEIGHTS_NAME).is_file():
        return [SAFE_WEIGHTS_NAME]
    names = []
    if index.is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    missing = [name for name in names if not (folder / name).is_file()]
    if not names or missing:
        raise FileNotFoundError(
            f"{folder} has no {missing[0] if missing else SAFE_WEIGHTS_NAME}. Only safetensors are published, because "
            "loading a pickle can run code. Save the model there with `model.save_pretrained`."
        )
    return [SAFE_WEIGHTS_INDEX_NAME, *names]


def _link(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it if the file system cannot."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _is_results(path: Path) -> bool:
    """Whether `results.json` is our results file; other programs use the name too."""
    return path.is_file() and '"schema_version"' in path.read_text(encoding="utf-8")


def _own_card(path: Path) -> str | None:
    """The text of a hand-written card; `None` if we or Trainer generated it."""
    if not path.is_file():
        return None
    card = ModelCard.load(path)
    is_made = is_made_card(card.content) or "generated_from_trainer" in (card.data.tags or [])
    return None if is_made else card.content


def _keep_card(api: HfApi, repo_id: str, revision: str | None, path: Path, tags: list[str] | None) -> None:
    """Prefer the card of the repository to a new one, and add the tags to it."""
    try:
        kept = Path(api.hf_hub_download(repo_id, CARD_NAME, revision=revision)).read_text(encoding="utf-8")
    except (EntryNotFoundError, RevisionNotFoundError):
        kept = None
    if kept is None and not path.is_file():
        return
    card: Any = ModelCard(kept or path.read_text(encoding="utf-8"))
    missing = [tag for tag in tags or [] if tag not in (card.data.tags or [])]
    if missing:
        card.data.tags = [*(card.data.tags or []), *missing]
        card.save(path)
    elif kept is not None:
        path.unlink(missing_ok=True)
