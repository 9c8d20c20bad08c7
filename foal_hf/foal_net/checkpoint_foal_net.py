"""The code of a checkpoint, saved with it, so that it loads with transformers alone.

Every save writes the files of this package that end in `_foal_net.py` beside the weights. With
`trust_remote_code=True` transformers imports them. After `import foal_hf` it uses the classes of the installed package,
and `trust_remote_code` is not needed.
"""

import os
import shutil
from pathlib import Path
from typing import Any, ClassVar


AUTO_MAP = {
    "AutoConfig": "configuration_foal_net.FoalNetConfig",
    "AutoModel": "modeling_foal_net.FoalNetModel",
    "AutoModelForAudioClassification": "modeling_foal_net.FoalNetForEmotionClassification",
    "AutoModelForVideoClassification": "modeling_foal_net.FoalNetForEmotionClassification",
    "AutoProcessor": "processing_foal_net.FoalNetProcessor",
    "AutoVideoProcessor": "video_processing_foal_net.FoalNetVideoProcessor",
}
"""The class for each auto class of transformers, which would itself name only the class that is saved."""

CUSTOM_PIPELINES: dict[str, dict[str, Any]] = {
    "audio-video-emotion": {
        "impl": "pipeline_foal_net.AudioVideoEmotionPipeline",
        # A class of transformers: a new process looks this name up there.
        "pt": ["AutoModelForVideoClassification"],
        "type": "multimodal",
    }
}


def write_code(folder: str | os.PathLike[str]) -> None:
    """Copy the code of a checkpoint, every `*_foal_net.py` beside this file, into its folder.

    transformers copies the file of the saved class and the files it imports. This copies the code of all parts, so that
    a folder with any part of a checkpoint can be loaded, and saved again, without the package.
    """
    for file in Path(__file__).parent.glob("*_foal_net.py"):
        target = Path(folder) / file.name
        if file.resolve() != target.resolve():
            shutil.copyfile(file, target)


class CheckpointPart:
    """A model, processor or pipeline as a part of a checkpoint on the Hub.

    With the package installed, a push is one commit with the card of a Foal-Net. Code that was loaded from the Hub
    pushes as transformers does.
    """

    # Returns the module `foal_hf.hub`; set by `import foal_hf`.
    _hub: ClassVar[Any] = None

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
        """As in transformers, with all of the code."""
        written = super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]
        write_code(save_directory)
        return written

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> Any:
        """Save this part to a repository on the Hub, in one commit.

        Args:
            repo_id (`str`): Name of the repository, `"organisation/name"`; created if it does not exist.
            **kwargs: `private`, `token`, `revision`, `create_pr`, `commit_message`, `commit_description`,
                `max_shard_size`, `tags`, as everywhere in transformers.

        Returns:
            `huggingface_hub.CommitInfo`: The commit.
        """
        if self._hub is None:
            return super().push_to_hub(repo_id, **kwargs)  # type: ignore[misc]
        return self._hub().push_part(self, repo_id, **kwargs)


__all__ = ["AUTO_MAP", "CUSTOM_PIPELINES", "CheckpointPart", "write_code"]
