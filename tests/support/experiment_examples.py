"""A fake IEMOCAP with real media for whole experiments, tiny encoders in folders, and the recipe that joins them."""

from pathlib import Path

import datasets
from fake_iemocap import FakeTurn, small_tree
from tiny_models import AUDIO_ENCODERS, VISION_ENCODERS
from transformers import AutoModel, CLIPImageProcessorPil, CLIPVisionModelWithProjection, Wav2Vec2FeatureExtractor

from foal_hf.corpora import load_corpus
from foal_hf.experiments.recipe import Recipe, load_recipe


SESSIONS = ("Ses01", "Ses02", "Ses03")
_CODES = ("hap", "neu", "sad", "ang", "exc")
_COLOURS = ((220, 200, 40), (120, 130, 120), (40, 60, 180), (210, 40, 30), (240, 150, 40))
_HERTZ = (523, 331, 211, 709, 601)
_TURN_SECONDS = 0.67


def experiment_turns() -> list[FakeTurn]:
    """One turn of each emotion by both speakers of three sessions; the emotion has a colour and a tone."""
    return [
        FakeTurn(
            name=f"{session}F_impro01_{letter}{number:03d}",
            start_seconds=_start(session, number),
            end_seconds=_start(session, number) + _TURN_SECONDS + 0.01 * number,
            code=code,
            colour=_COLOURS[number],
            hertz=_HERTZ[number] + 7 * int(session[-1]) + (83 if letter == "F" else 0),
        )
        for session in SESSIONS
        for letter in "FM"
        for number, code in enumerate(_CODES)
    ]


def _start(session: str, number: int) -> float:
    """Each session has a film of its own."""
    return 0.1 + 0.73 * number + 0.03 * int(session[-1])


def experiment_tree(folder: Path) -> Path:
    """The release folder of these turns: 30 clips of 6 speakers in 3 sessions."""
    return small_tree(folder, experiment_turns())


def load_tree(release: Path, cache_dir: Path) -> datasets.Dataset:
    """Its rows."""
    return load_corpus("iemocap", release, cache_dir=cache_dir, allow_partial=True)


def save_encoders(folder: Path) -> tuple[str, str]:
    """Tiny pretrained encoders of random weights, as folders."""
    audio, vision = folder / "audio", folder / "vision"
    AutoModel.from_config(AUDIO_ENCODERS["wavlm"]).save_pretrained(audio)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(audio)
    CLIPVisionModelWithProjection(VISION_ENCODERS["clip"][0]).save_pretrained(vision)
    size = {"height": 26, "width": 26}
    CLIPImageProcessorPil(size={"shortest_edge": 26}, crop_size=size).save_pretrained(vision)
    return str(audio), str(vision)


def quick_recipe(encoders: tuple[str, str], name: str = "paper", **settings: object) -> Recipe:
    """A shipped recipe with tiny encoders, three epochs, few frames, and no process beside this one."""
    quick = {
        "num_train_epochs": 3,
        "per_device_train_batch_size": 5,
        "per_device_eval_batch_size": 7,
        "max_seconds": 1.0,
        "frames_per_second": 5.0,
        "projection_dim": 16,
        "dataloader_num_workers": 0,
        "disable_tqdm": True,
        "report_to": "none",
        "use_cpu": True,
    }
    return load_recipe(name).with_encoders(*encoders).with_settings({**quick, **settings})
