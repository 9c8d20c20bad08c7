"""Training with all random parts of the published settings: it repeats, resumes, and is not changed by saving."""

from pathlib import Path
from typing import Any

import pytest
import torch
from training_examples import Examples, collate, make_arguments, make_published_model

from foal_hf.training import FoalNetTrainer


pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # of fork
SHORTEST = 5003  # 15 frames of audio: masks are 10 long


def trained(folder: Path, checkpoint: str | None = None, **fields: Any) -> dict[str, torch.Tensor]:
    """The weights after three epochs, or what is left of them after a checkpoint."""
    arguments = make_arguments(folder, num_train_epochs=3, train_sampling_strategy="random", **fields)
    trainer = FoalNetTrainer(
        make_published_model(),
        arguments,
        train_dataset=Examples(12, shortest=SHORTEST),
        eval_dataset=Examples(7, seed=1, first_speaker=7, shortest=SHORTEST),
        data_collator=collate,
    )
    torch.manual_seed(0 if checkpoint is None else 123456)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(folder / checkpoint))
    return trainer.model.state_dict()


def differing(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    return [name for name in one if not torch.equal(one[name], other[name])]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The weights of a run that neither saves nor evaluates, and decodes in its own process."""
    return trained(tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize("step", [3, 6, 5], ids=["after epoch 1", "after epoch 2", "within epoch 2"])
@pytest.mark.parametrize("persistent", [True, False])
def test_a_run_with_workers_resumes_bit_for_bit(undisturbed, tmp_path: Path, step: int, persistent: bool) -> None:
    fields = {"eval_strategy": "epoch", "save_strategy": "steps", "save_steps": step, "dataloader_num_workers": 1}
    fields["dataloader_persistent_workers"] = persistent
    assert differing(trained(tmp_path, **fields), undisturbed) == []
    assert differing(trained(tmp_path, f"checkpoint-{step}", **fields), undisturbed) == []


@pytest.mark.parametrize(
    "fields",
    [{"save_strategy": "steps", "save_steps": 1}, {"eval_strategy": "steps", "eval_steps": 1}],
    ids=["saving", "evaluating"],
)
def test_neither_saving_nor_evaluating_changes_the_weights(undisturbed, tmp_path: Path, fields: dict[str, Any]) -> None:
    assert differing(trained(tmp_path, **fields), undisturbed) == []


def test_another_seed_gives_other_weights(undisturbed, tmp_path: Path) -> None:
    assert len(differing(trained(tmp_path, seed=5), undisturbed)) > 50
