"""What a saved checkpoint says of its own code, so that it loads for those who have transformers and nothing else.

Every save writes the files of this package that end in `_foal_net.py` beside the weights. With
`trust_remote_code=True` transformers imports them; with `import foal_hf` the classes of the installed package are
taken, and nobody has to trust anything.
"""

from typing import TYPE_CHECKING, Any, ClassVar


if TYPE_CHECKING:
    # transformers copies a file together with those that it imports, and finds these by reading its text. Naming all of
    # them here brings the whole code along with any part of a checkpoint, so that any part can be saved again.
    from .modeling_foal_net import FoalNetForEmotionClassification, FoalNetModel  # noqa: F401
    from .pipeline_foal_net import AudioVideoEmotionPipeline  # noqa: F401
    from .processing_foal_net import FoalNetProcessor  # noqa: F401

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


class CheckpointPart:
    """A model, processor or pipeline as a part of a checkpoint on the Hub.

    With the package installed, pushing writes the card of a Foal-Net and one commit. Code that came from the Hub leaves
    both to transformers.
    """

    # Gives the module `foal_hf.hub`; set by `import foal_hf`.
    _hub: ClassVar[Any] = None

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


__all__ = ["AUTO_MAP", "CUSTOM_PIPELINES", "CheckpointPart"]
