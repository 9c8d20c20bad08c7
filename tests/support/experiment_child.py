"""Cross-validates in a process of its own: `experiment_child.py RELEASE CACHE AUDIO VISION OUTPUT STEP_THAT_KILLS`.

It kills itself, as `kill -9` does, before that step of training, counted over all folds.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from experiment_examples import load_tree, quick_recipe

from foal_hf.experiments import cross_validate, describe_corpus
from foal_hf.training import FoalNetTrainer


def main(release: str, cache: str, audio: str, vision: str, output: str, step_that_kills: str) -> None:
    steps_left, training_step = int(step_that_kills), FoalNetTrainer.training_step

    def step(self: FoalNetTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        nonlocal steps_left
        steps_left -= 1
        if steps_left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return training_step(self, *args, **kwargs)

    FoalNetTrainer.training_step = step  # type: ignore[method-assign]
    torch.set_num_threads(1)
    corpus = load_tree(Path(release), Path(cache))
    cross_validate(quick_recipe((audio, vision)), corpus, output, about=describe_corpus("iemocap"))


if __name__ == "__main__":
    main(*sys.argv[1:])
