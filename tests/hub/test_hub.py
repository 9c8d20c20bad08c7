"""Pushing a checkpoint: what goes, what stays, which card it gets, and what is refused before anything leaves."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from loopback_hub import READ_TOKEN, WRITE_TOKEN, LoopbackHub
from safetensors.torch import load_file, save_file

from foal_hf import TINY_CHECKPOINT, FoalNetForEmotionClassification, FoalNetProcessor, push_checkpoint
from foal_hf.results import Corpus, Protocol, Results


CHECKPOINT = {"config.json", "model.safetensors", "processor_config.json"}
CODE = {path.name for path in (Path(__file__).parents[2] / "foal_hf" / "foal_net").glob("*_foal_net.py")}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        hub.serve_this_process(monkeypatch, tmp_path / "home")
        yield hub


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint without a card."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name in CHECKPOINT:
        shutil.copyfile(TINY_CHECKPOINT / name, folder / name)
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "run" / "results.json"
    Results(
        corpus=Corpus(name="Seven Sparrows"),
        labels=["happy", "neutral", "sad", "angry"],
        protocol=Protocol(key="speaker-disjoint", description="No speaker is in two parts."),
        selection="validation",
    ).save(path)
    return path


# What goes


def test_a_push_holds_the_checkpoint_its_code_and_its_card(hub: LoopbackHub, checkpoint: Path) -> None:
    pushed = push_checkpoint(checkpoint, "org/foal-net", private=True)
    files = hub.files("model", "org/foal-net")
    assert set(files) == CHECKPOINT | CODE | {"README.md"} == {path for path, _ in pushed.files}
    assert hub.titles("model", "org/foal-net") == ["Upload Foal-Net checkpoint"]
    assert hub.repositories["model", "org/foal-net"].private
    assert pushed.changed and pushed.commit_url and pushed.revision == "main"


def test_the_state_of_a_trainer_stays_here(hub: LoopbackHub, checkpoint: Path) -> None:
    for name in ("training_args.bin", "optimizer.pt", "trainer_state.json", "notes.txt", "old_foal_net.py"):
        (checkpoint / name).write_bytes(b"of this machine")
    (checkpoint / "checkpoint-7").mkdir()
    push_checkpoint(checkpoint, "org/foal-net")
    assert set(hub.files("model", "org/foal-net")) == CHECKPOINT | CODE | {"README.md"}


def test_a_dry_run_lists_the_files_and_says_nothing_to_the_hub(hub: LoopbackHub, checkpoint: Path) -> None:
    pushed = push_checkpoint(checkpoint, "org/foal-net", dry_run=True)
    sizes = dict(pushed.files)
    assert set(sizes) == CHECKPOINT | CODE | {"README.md"}
    assert sizes["model.safetensors"] == os.path.getsize(checkpoint / "model.safetensors")
    assert hub.requests == [] and not pushed.changed


def test_sharded_weights_go_and_a_later_push_replaces_them(hub: LoopbackHub, checkpoint: Path, tmp_path: Path) -> None:
    sharded = tmp_path / "sharded"
    FoalNetForEmotionClassification.from_pretrained(checkpoint).save_pretrained(sharded, max_shard_size="300KB")
    shutil.copyfile(checkpoint / "processor_config.json", sharded / "processor_config.json")
    push_checkpoint(sharded, "org/foal-net")
    before = set(hub.files("model", "org/foal-net"))
    assert "model.safetensors.index.json" in before and "model.safetensors" not in before
    push_checkpoint(checkpoint, "org/foal-net")
    assert set(hub.files("model", "org/foal-net")) == CHECKPOINT | CODE | {"README.md"}


def test_code_and_pickles_of_an_earlier_push_are_deleted_and_other_files_stay(
    hub: LoopbackHub, checkpoint: Path, tmp_path: Path
) -> None:
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    for name in ("renamed_foal_net.py", "pytorch_model.bin", "training_args.bin", "confusion.png"):
        (earlier / name).write_bytes(b"earlier")
    hub.put("org/foal-net", earlier)
    push_checkpoint(checkpoint, "org/foal-net")
    assert set(hub.files("model", "org/foal-net")) == CHECKPOINT | CODE | {"README.md", "confusion.png"}


def test_a_branch_is_made_where_it_is_missing(hub: LoopbackHub, checkpoint: Path) -> None:
    push_checkpoint(checkpoint, "org/foal-net", revision="fold-3")
    assert set(hub.files("model", "org/foal-net", "fold-3")) >= CHECKPOINT
    assert hub.files("model", "org/foal-net") == {}


def test_the_same_push_twice_is_one_commit(hub: LoopbackHub, checkpoint: Path) -> None:
    assert push_checkpoint(checkpoint, "org/foal-net").changed
    assert not push_checkpoint(checkpoint, "org/foal-net").changed
    assert len(hub.titles("model", "org/foal-net")) == 1


def test_a_push_that_breaks_off_leaves_nothing_and_can_be_repeated(hub: LoopbackHub, checkpoint: Path) -> None:
    hub.cut_next("reading", method="PUT", times=20)
    with pytest.raises(RuntimeError, match="Push again"):
        push_checkpoint(checkpoint, "org/foal-net")
    assert hub.files("model", "org/foal-net") == {}
    hub._traffic.failures.clear()
    push_checkpoint(checkpoint, "org/foal-net")
    assert set(hub.files("model", "org/foal-net")) >= CHECKPOINT


# The card


def test_the_card_is_made_from_the_results_of_the_run(hub: LoopbackHub, checkpoint: Path, results: Path) -> None:
    push_checkpoint(checkpoint, "org/foal-net", results=results)
    files = hub.files("model", "org/foal-net")
    assert b"Seven Sparrows" in files["README.md"] and b"org/foal-net" in files["README.md"]
    assert json.loads(files["results.json"])["corpus"] == {"name": "Seven Sparrows"}


def test_results_beside_the_weights_are_found(hub: LoopbackHub, checkpoint: Path, results: Path) -> None:
    shutil.copyfile(results, checkpoint / "results.json")
    push_checkpoint(checkpoint, "org/foal-net")
    assert b"Seven Sparrows" in hub.files("model", "org/foal-net")["README.md"]


def test_a_card_that_somebody_wrote_stays(hub: LoopbackHub, checkpoint: Path, results: Path) -> None:
    (checkpoint / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    push_checkpoint(checkpoint, "org/foal-net")
    assert hub.files("model", "org/foal-net")["README.md"] == b"---\nlicense: mit\n---\n# Mine\n"
    push_checkpoint(checkpoint, "org/foal-net", results=results)
    assert b"Seven Sparrows" in hub.files("model", "org/foal-net")["README.md"]


def test_the_card_of_trainer_is_replaced(hub: LoopbackHub, checkpoint: Path) -> None:
    (checkpoint / "README.md").write_text("---\ntags: [generated_from_trainer]\n---\n# More information needed\n")
    push_checkpoint(checkpoint, "org/foal-net")
    card = ModelCard(hub.files("model", "org/foal-net")["README.md"].decode())
    assert "More information needed" not in card.content
    assert card.data.library_name == "transformers"


def test_saving_writes_a_card_once(checkpoint: Path, tmp_path: Path) -> None:
    model, folder = FoalNetForEmotionClassification.from_pretrained(checkpoint), tmp_path / "saved"
    model.save_pretrained(folder)
    assert "5(1)(f)" in (folder / "README.md").read_text()
    (folder / "README.md").write_text("mine")
    model.save_pretrained(folder)
    assert (folder / "README.md").read_text() == "mine"
    model.save_pretrained(tmp_path / "of another rank", is_main_process=False)
    assert not (tmp_path / "of another rank" / "README.md").exists()


# Parts


def test_parts_share_a_repository_and_its_card(hub: LoopbackHub, checkpoint: Path) -> None:
    FoalNetProcessor.from_pretrained(checkpoint).push_to_hub("org/foal-net", private=True)
    assert set(hub.files("model", "org/foal-net")) == {"processor_config.json"} | CODE
    model = FoalNetForEmotionClassification.from_pretrained(checkpoint)
    commit = model.push_to_hub("org/foal-net", tags=["seven"], commit_message="Second")
    assert commit.commit_message == "Second" and commit.startswith(hub.url)
    assert set(hub.files("model", "org/foal-net")) == CHECKPOINT | CODE | {"README.md"}
    assert "seven" in ModelCard(hub.files("model", "org/foal-net")["README.md"].decode()).data.tags
    assert hub.titles("model", "org/foal-net") == ["Upload FoalNetProcessor", "Second"]
    assert hub.repositories["model", "org/foal-net"].private


def test_a_part_is_not_pushed_to_a_public_repository_if_a_private_one_was_asked_for(
    hub: LoopbackHub, checkpoint: Path
) -> None:
    processor = FoalNetProcessor.from_pretrained(checkpoint)
    processor.push_to_hub("org/foal-net")
    with pytest.raises(PermissionError, match="org/foal-net is public, and `private=True` was given"):
        processor.push_to_hub("org/foal-net", private=True)
    assert len(hub.titles("model", "org/foal-net")) == 1


def test_refusals_of_a_part_are_explained_too(hub: LoopbackHub, checkpoint: Path) -> None:
    processor = FoalNetProcessor.from_pretrained(checkpoint)
    with pytest.raises(PermissionError, match="hf auth login"):
        processor.push_to_hub("org/foal-net", token=READ_TOKEN)
    assert ("model", "org/foal-net") not in hub.repositories


def test_a_card_on_the_hub_is_kept_when_a_model_is_pushed(hub: LoopbackHub, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "card").mkdir()
    (tmp_path / "card" / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    hub.put("org/foal-net", tmp_path / "card")
    model = FoalNetForEmotionClassification.from_pretrained(checkpoint)
    model.push_to_hub("org/foal-net")
    assert hub.files("model", "org/foal-net")["README.md"] == b"---\nlicense: mit\n---\n# Mine\n"
    model.push_to_hub("org/foal-net", tags=["seven"])
    card = ModelCard(hub.files("model", "org/foal-net")["README.md"].decode())
    assert (card.data.license, card.data.tags) == ("mit", ["seven"]) and "# Mine" in card.text


# What is refused


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), FileNotFoundError, "config.json is missing"),
        (lambda folder: (folder / "processor_config.json").unlink(), FileNotFoundError, "processor.save_pretrained"),
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
            FileNotFoundError,
            "Only safetensors are published",
        ),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}'), ValueError, "'bert'"),
        (lambda folder: os.truncate(folder / "model.safetensors", 70_001), ValueError, "damaged or truncated"),
    ],
    ids=["config", "processor", "pickle", "another model", "cut off"],
)
def test_what_is_no_whole_checkpoint_is_refused_before_the_hub_is_asked(
    hub: LoopbackHub, checkpoint: Path, spoil, error: type[Exception], message: str
) -> None:
    spoil(checkpoint)
    with pytest.raises(error, match=message.replace("(", r"\(")):
        push_checkpoint(checkpoint, "org/foal-net")
    assert hub.requests == []


@pytest.mark.parametrize("change", ["missing", "reshaped"])
def test_weights_that_do_not_fit_the_config_are_refused(hub: LoopbackHub, checkpoint: Path, change: str) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    weight = weights.pop("classifier.weight")
    if change == "reshaped":
        weights["classifier.weight"] = torch.cat([weight, weight])
    save_file(weights, checkpoint / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"1 are missing or of another shape, such as classifier\.weight"):
        push_checkpoint(checkpoint, "org/foal-net")
    assert hub.requests == []


@pytest.mark.parametrize(
    ("token", "status", "error"),
    [("hf_unknown", None, PermissionError), (READ_TOKEN, None, PermissionError), (WRITE_TOKEN, 500, RuntimeError)],
)
def test_refusals_of_the_hub_say_the_way_out_and_never_the_token(
    hub: LoopbackHub, checkpoint: Path, token: str, status: int | None, error: type[Exception]
) -> None:
    if status:
        hub.fail_next(status, times=20)
    with pytest.raises(error) as caught:
        push_checkpoint(checkpoint, "org/foal-net", token=token)
    assert token not in str(caught.value)
    assert any(hint in str(caught.value) for hint in ("hf auth login", "push again"))
