"""What a saved checkpoint says of its own code, so that it loads for those who have transformers and nothing else.

Every save writes the files of this package that end in `_foal_net.py` beside the weights. With
`trust_remote_code=True` transformers imports them; with `import foal_hf` the classes of the installed package are
taken, and nobody has to trust anything.
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
"""Where each auto class of transformers finds its class. transformers itself would name the saved one alone."""

CUSTOM_PIPELINES: dict[str, dict[str, Any]] = {
    "audio-video-emotion": {
        "impl": "pipeline_foal_net.AudioVideoEmotionPipeline",
        # A class of transformers' own namespace: a fresh process looks this name up there.
        "pt": ["AutoModelForVideoClassification"],
        "type": "multimodal",
    }
}


def write_code(folder: str | os.PathLike[str]) -> None:
    """Copy the code of a checkpoint, every `*_foal_net.py` beside this file, into its folder.

    transformers itself copies a class with what its file imports; this brings the other parts' code too, so that a
    folder with any part of a checkpoint can be loaded, and saved again, without the package.
    """
    for file in Path(__file__).parent.glob("*_foal_net.py"):
        target = Path(folder) / file.name
        if file.resolve() != target.resolve():
            shutil.copyfile(file, target)


class CheckpointPart:
    """A model, processor or pipeline as a part of a checkpoint on the Hub.

    With the package installed, pushing writes the card of a Foal-Net and one commit. Code that came from the Hub leaves
    both to transformers.
    """

    # Gives the module `foal_hf.hub`; set by `import foal_hf`.
    _hub: ClassVar[Any] = None

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
        """As in transformers, with all of the code beside it."""
        written = super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]
        write_code(save_directory)
        return written

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> Any:
        """Save this part to a repository on the Hub, in one commit.

        Args:
            repo_id (`str`): Name of the repository, `"organisation/name"`; made where it does not exist.
            **kwargs: `private`, `token`, `revision`, `create_pr`, `commit_message`, `commit_description`,
                `max_shard_size`, `tags`, as everywhere in transformers.

        Returns:
            `huggingface_hub.CommitInfo`: The URL of the commit, and its facts.
        """
        if self._hub is None:
            return super().push_to_hub(repo_id, **kwargs)  # type: ignore[misc]
        return self._hub().push_part(self, repo_id, **kwargs)


__all__ = ["AUTO_MAP", "CUSTOM_PIPELINES", "CheckpointPart", "write_code"]
