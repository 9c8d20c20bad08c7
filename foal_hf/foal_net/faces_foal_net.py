"""Whose face a clip is about, and the clip with that face as its frames.

Faces are found by the installed package, not by this code: see `find_faces` of [`MediaFile.read`]. Each frame of a clip
then has a dict of faces by the number of the person; a face has `box` (left, top, right, bottom in pixels), `side` (the
longer one of the box), `is_seen` (False where the person is out of sight for a moment) and `crop`, what the encoder
sees of it, `(3, height, width)`, or None.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch


CROPS = ("frame", "face")
"""What the encoder sees of a frame: all of it, or the main face."""
FACES = ("auto", "off")
"""Whether faces are looked for where a checkpoint was trained on faces."""
NOT_FOUND = (
    "the whole frame is used, and the checkpoint was trained on faces: they are found by the package foal_hf with the "
    'extra `pip install "foal-hf[faces]"`'
)
TURNED_OFF = "the whole frame is used, and the checkpoint was trained on faces: `faces` is 'off'"
NO_FACE = "no face is seen: the whole frame is used"


class FaceCounter:
    """Counts the faces in the frames of a clip or recording.

    Attributes:
        num_frames, num_with_face (`int`): Frames that were looked at, and those of them in which a face is seen.
    """

    def __init__(self) -> None:
        self.num_frames = self.num_with_face = 0
        self._sides: dict[int, float] = {}
        self._boxes: dict[int, list[float]] = {}  # sum of the boxes, and their number

    def add(self, faces: Iterable[Mapping[int, Any]]) -> None:
        """Count the next frames, each with its faces by the number of the person."""
        for of_frame in faces:
            seen = {person: face for person, face in of_frame.items() if face.is_seen}
            self.num_frames += 1
            self.num_with_face += bool(seen)
            for person, face in seen.items():
                if face.crop is not None:
                    self._sides[person] = self._sides.get(person, 0.0) + face.side
                    sums = self._boxes.get(person, [0.0] * 5)
                    self._boxes[person] = [total + edge for total, edge in zip(sums, (*face.box, 1.0), strict=True)]

    @property
    def main_person(self) -> int | None:
        """The largest, longest visible one; None without a face.

            sum over the frames in which the face is seen of the longer side of its box

        so a face that is half as large has to be seen twice as long. Of equal ones it is the one that came first.
        """
        return max(self._sides, key=lambda person: (self._sides[person], -person)) if self._sides else None

    def evidence(self) -> dict[str, Any]:
        """`crop`, `frames`, `frames_with_face` and `face_box`, as documented by [`measure_evidence`]."""
        person, box = self.main_person, None
        if person is not None:
            *sums, number = self._boxes[person]
            box = [round(total / number, 1) for total in sums]
        return {
            "crop": "frame" if box is None else "face",
            "frames": self.num_frames,
            "frames_with_face": self.num_with_face,
            "face_box": box,
        }


def crop_to_main_face(clip: Any) -> Any:
    """The clip with the crops of its main face as frames.

    Frames before this face is first seen and behind the last one are left out, and those without its crop in between;
    a clip without a face keeps its frames.

    Args:
        clip ([`~foal_hf.Clip`]): Read with `find_faces`, or without: then it is unchanged.

    Returns:
        [`~foal_hf.Clip`]: Without `faces`.
    """
    if clip.faces is None or clip.frames is None:
        return replace(clip, faces=None)
    counter = FaceCounter()
    counter.add(clip.faces)
    person = counter.main_person
    if person is None:
        return replace(clip, faces=None)
    found = {index: faces[person] for index, faces in enumerate(clip.faces) if person in faces}
    crops = {index: face.crop for index, face in found.items() if face.crop is not None}
    seen = [index for index in crops if found[index].is_seen]
    kept = [index for index in crops if seen[0] <= index <= seen[-1]]
    frames = torch.stack([crops[index] for index in kept])
    return replace(clip, frames=frames, frame_seconds=clip.frame_seconds[kept], faces=None)


__all__ = ["CROPS", "FACES", "NOT_FOUND", "NO_FACE", "TURNED_OFF", "FaceCounter", "crop_to_main_face"]
