"""What each process of a distributed run does for test_training_distributed.py; `torchrun` starts it."""

import os
import sys
from pathlib import Path

import torch
from training_examples import Examples, collate, make_arguments, make_model

from foal_hf.foal_net.losses_foal_net import gather_over_ranks
from foal_hf.training import LOSSES, FoalNetTrainer


def two_steps(folder: Path) -> dict:
    """Weights and log after two steps of 8 clips, over however many processes. MEM draws within one, so it is left out.

    The gradient of some weights (biases of keys) is nothing but rounding, which AdamW would blow up: plain SGD.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    model = make_model(dropout=False, matching_loss_weight=0.0)
    arguments = make_arguments(
        folder,
        per_device_train_batch_size=8 // world_size,
        train_sampling_strategy="random",  # whose order knows no batches
        max_steps=2,
        optim="sgd",
        learning_rate=0.1,
        max_grad_norm=0.0,
    )
    trainer = FoalNetTrainer(
        model,
        arguments,
        train_dataset=Examples(),
        eval_dataset=Examples(13, seed=1, first_speaker=7),
        data_collator=collate,
    )
    trainer.train()
    return {"weights": model.state_dict(), "log": trainer.state.log_history, "evaluation": trainer.evaluate()}


def resumed(folder: Path) -> tuple[dict, dict]:
    """What a run logs of each step, and the same run resumed after the second of the three steps of its epoch 2."""
    curves = []
    for checkpoint in (None, str(folder / "checkpoint-5")):
        arguments = make_arguments(folder, save_strategy="steps", save_steps=5)
        trainer = FoalNetTrainer(make_model(), arguments, train_dataset=Examples(), data_collator=collate)
        trainer.train(resume_from_checkpoint=checkpoint)
        entries = [entry for entry in trainer.state.log_history if "loss" in entry]
        curves.append({entry["step"]: [entry[name] for name in ("loss", "grad_norm", *LOSSES)] for entry in entries})
    return curves[0], curves[1]


def main(folder: Path) -> None:
    """Leave the results of this process in `{rank}.pt`."""
    results = {"two_steps": two_steps(folder / "two_steps"), "resumed": resumed(folder / "resumed")}
    results["ranks"] = gather_over_ranks(torch.tensor([int(os.environ["RANK"])])).tolist()
    torch.save(results, folder / f"{os.environ['RANK']}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
