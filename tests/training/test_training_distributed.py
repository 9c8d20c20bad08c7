"""Two processes that train together, against one: the same weights, the same evaluation, the same way back in."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ddp_training import two_steps


SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What two processes, started as `torchrun` starts them, give."""
    folder = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SUPPORT / "ddp_training.py")]
    run = subprocess.run(
        [sys.executable, *command, str(folder)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.slow
def test_two_processes_with_4_clips_each_take_the_steps_of_one_with_8(ranks: list[dict], tmp_path: Path) -> None:
    assert ranks[0]["ranks"] == ranks[1]["ranks"] == [0, 1]
    alone = two_steps(tmp_path)
    for rank in ranks:
        for name, weight in alone["weights"].items():
            torch.testing.assert_close(rank["two_steps"]["weights"][name], weight, atol=1e-5, rtol=0, msg=name)
        for theirs, ours in zip(rank["two_steps"]["log"][:2], alone["log"][:2], strict=True):
            for name in ("loss", "classification_loss", "alignment_loss", "grad_norm"):
                assert theirs[name] == pytest.approx(ours[name], abs=1e-4)


@pytest.mark.slow
def test_two_processes_evaluate_as_one_does(ranks: list[dict], tmp_path: Path) -> None:
    alone = two_steps(tmp_path)["evaluation"]
    for rank in ranks:
        evaluation = rank["two_steps"]["evaluation"]
        for name in ("eval_unweighted_accuracy", "eval_weighted_accuracy"):
            assert evaluation[name] == pytest.approx(alone[name])
        parts = evaluation["eval_classification_loss"] + evaluation["eval_alignment_loss"]
        assert evaluation["eval_loss"] == pytest.approx(parts, abs=1e-5)


@pytest.mark.slow
def test_processes_that_resume_in_the_middle_of_an_epoch_repeat_its_rest(ranks: list[dict]) -> None:
    whole, resumed = ranks[0]["resumed"]
    assert list(whole) == [1, 2, 3, 4, 5, 6] and resumed == whole
