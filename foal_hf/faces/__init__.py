"""Faces in videos: found, followed over time and cropped, for checkpoints that were trained on faces.

    detector = CenterFace()                                   # the extra `faces`; any FaceDetector will do
    found = find_faces(detector, frames)                      # boxes, scores and landmarks of each frame
    crops = FaceCrops(transform, margin=1.36)                 # what the pipeline uses, see watching.py

Nobody is recognised: a person is a place in the frame that is followed from one cut to the next.
"""

from .centerface import EXTRA, CenterFace, missing_packages
from .crops import CROP_MARGIN, crop_square, square_around
from .detection import Detections, FaceDetector, find_faces
from .tracks import FaceTracks, Person
from .watching import Face, FaceCrops, FaceWatch


__all__ = [
    "CROP_MARGIN",
    "EXTRA",
    "CenterFace",
    "Detections",
    "Face",
    "FaceCrops",
    "FaceDetector",
    "FaceTracks",
    "FaceWatch",
    "Person",
    "crop_square",
    "find_faces",
    "missing_packages",
    "square_around",
]
