"""A plugin of pytest, loaded before anything else: torchvision imports beside a CPU build of torch.

Its wheels register operators that such a build lacks; their names are enough to import it.
"""

import torch


# It has to stay: what it defines goes with it.
LIBRARY = torch.library.Library("torchvision", "DEF")
LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
LIBRARY.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
