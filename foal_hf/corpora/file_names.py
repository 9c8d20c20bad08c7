"""What the name of a file says about it."""

import os

from ..foal_net.media_foal_net import MediaFile
from ..foal_net.sources_foal_net import AUDIO_ENDINGS, VIDEO_ENDINGS, MediaError


def has_video(path: str) -> bool:
    """Whether a file has video: by its ending, or by its content if the ending does not tell."""
    ending = os.path.splitext(path)[1].lower()
    if ending != ".ogg" and ending in AUDIO_ENDINGS | VIDEO_ENDINGS:
        return ending in VIDEO_ENDINGS
    try:
        with MediaFile(path) as media:
            return "video" in media.modalities
    except MediaError:  # reported when the files are checked
        return False


def is_utf8(name: str) -> bool:
    """Whether a name from the file system is valid text, which the tables of `datasets` require."""
    return name == printable(name)


def printable(name: str) -> str:
    r"""A name with an escape such as `\udcff` in place of each byte that is not UTF-8."""
    return name.encode("utf-8", errors="backslashreplace").decode("utf-8")
