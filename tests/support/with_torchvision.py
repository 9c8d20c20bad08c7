"""Beginnings of scripts that run as if torchvision were installed, or were not."""

import sys
from pathlib import Path


# Apart from the environment: there transformers would find it everywhere, and fail to import it beside a CPU torch.
TORCHVISION = Path(sys.prefix) / "torchvision-for-tests"
WITHOUT_TORCHVISION = """
import importlib.abc, importlib.util, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torchvision":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "torchvision" else find_spec(name, *rest)
sys.meta_path.insert(0, Blocked())
"""
# The wheels of torchvision register operators that a CPU build of torch lacks; their names are enough to import it.
WITH_TORCHVISION = """
import torch
library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import torchvision
from transformers import AutoVideoProcessor
"""
