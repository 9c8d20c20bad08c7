"""The sections of a card that hold what is known of the model beside its numbers."""

from transformers import PreTrainedConfig

from ...foal_net.configuration_foal_net import FoalNetConfig
from ...results import Corpus, Results, Training
from .markdown import bullets, counted, enumerated, named_versions, sentence, table
from .metadata import encoder_names, encoder_of
from .parameters import count_parameters


_LICENCE_UNKNOWN = "licence not recorded here; look it up before you pass the weights on"


def label_names(config: FoalNetConfig) -> list[str]:
    """The classes, by index."""
    return [str(name) for _, name in sorted((config.id2label or {}).items())]


def labels_section(config: FoalNetConfig, results: Results | None) -> str:
    """The classes with their index, and what else counts as one of them."""
    merged = results.merged_classes if results else {}
    counts_as = {label: f" ({enumerated(others)} counts as {label})" for label, others in merged.items() if others}
    return bullets(f"{index}: {label}{counts_as.get(label, '')}" for index, label in enumerate(label_names(config)))


def architecture_section(
    config: FoalNetConfig, results: Results | None, num_parameters: tuple[int, int] | None = None
) -> str:
    """The parts of the model with their sizes."""
    names = dict(zip(("audio", "vision"), encoder_names(config, results), strict=True))
    what = {
        "audio encoder": _encoder_words(config.audio_config, names["audio"], config.audio_width),
        "image encoder": _encoder_words(config.vision_config, names["vision"], config.video_width),
        "alignment, fusion and heads": f"aligned embeddings of width {config.projection_dim}; in each direction "
        f"{counted(config.num_fusion_layers, 'layer')} of {counted(config.num_fusion_heads, 'head')}",
        "all": "",
    }
    counts = count_parameters(config)
    counts["all"] = num_parameters or counts["all"]
    rows = [(part, what[part], f"{number:,}", f"{trained:,}") for part, (number, trained) in counts.items()]
    return table(("part", "what it is", "parameters", "trainable"), rows)


def training_section(config: FoalNetConfig, results: Results | None) -> str:
    """Corpus, protocol, the parts of the clips, and how training ran."""
    if results is None:
        return "How this checkpoint was trained is not recorded."
    held_out = f" Held out: {results.protocol.held_out}." if results.protocol.held_out else ""
    paragraphs = [f"{_corpus_words(results.corpus)} {sentence(results.protocol.description)}{held_out}"]
    if results.splits:
        rows = [
            (name, f"{split.num_clips:,}", "" if split.num_speakers is None else f"{split.num_speakers:,}")
            for name, split in results.splits.items()
        ]
        paragraphs.append(table(("part", "clips", "speakers"), rows))
    facts = _encoder_facts(config, results) + _loss_facts(config)
    if results.training:
        facts += _training_facts(results.training)
    if results.seeds:
        facts.append(f"{'seed' if len(results.seeds) == 1 else 'seeds'}: {enumerated(map(str, results.seeds))}")
    if results.versions:
        facts.append(f"versions: {named_versions(results.versions)}")
    return "\n\n".join([*paragraphs, bullets(facts)])


def limits_section(results: Results | None, generated: bool) -> str:
    """What the checkpoint cannot do, or nobody knows of it."""
    limits = []
    if generated:
        limits.append("It was trained on generated clips: nothing is known of it on people.")
    else:
        limits.append("The labels are what raters perceived or actors meant to show, not what a person felt.")
        limits.append("Errors differ between groups of people, between kinds of recording, and from corpus to corpus.")
    if results is None:
        limits.append("Nothing is known here of the clips that it was trained on, nor of its errors.")
    else:
        limits += _run_limits(results)
    limits.append("Every clip gets one of the labels above, also where none of them fits.")
    return bullets(limits)


def licences_section(config: FoalNetConfig, results: Results | None) -> str:
    """Licences of checkpoint, corpus, encoders and code, and what they oblige to."""
    license_id = results.license if results else None
    lines = [f"this checkpoint: {license_id or 'no licence is stated'}"]
    if results:
        lines.append(f"{results.corpus.name}: {_licence_words(results.corpus.license, results.corpus.duty)}")
    for part, name in zip(("audio", "vision"), encoder_names(config, results), strict=True):
        encoder = encoder_of(results, part)
        if name or (encoder and encoder.pretrained):
            words = _licence_words(encoder.license, encoder.duty) if encoder else _LICENCE_UNKNOWN
            lines.append(f"{f'`{name}`' if name else f'the pretrained {part} encoder'}: {words}")
    lines.append("the code: Apache-2.0, an independent implementation from the published facts")
    return bullets(lines)


def _encoder_words(encoder_config: PreTrainedConfig, name: str | None, width: int) -> str:
    origin = f" from `{name}`" if name else ""
    num_layers = encoder_config.num_hidden_layers
    return f"{encoder_config.model_type}{origin}: {counted(num_layers, 'layer')}, output of width {width}"


def _corpus_words(corpus: Corpus) -> str:
    name = f"[{corpus.name}]({corpus.url})" if corpus.url else corpus.name
    kinds = {"generated": corpus.generated, "acted": corpus.acted}
    facts = [word for word, is_so in kinds.items() if is_so]
    if corpus.languages:
        facts.append(f"language: {enumerated(corpus.languages)}")
    in_brackets = f" ({'; '.join(facts)})" if facts else ""
    description = f" {sentence(corpus.description)}" if corpus.description else ""
    return f"Corpus: {name}{in_brackets}.{description}"


def _encoder_facts(config: FoalNetConfig, results: Results) -> list[str]:
    facts = []
    for part, name in zip(("audio", "vision"), encoder_names(config, results), strict=True):
        encoder = encoder_of(results, part)
        if encoder:
            origin = f"`{name}`" if name else "pretrained" if encoder.pretrained else "from scratch"
            facts.append(f"{'image' if part == 'vision' else part} encoder: {origin}")
    return facts


def _loss_facts(config: FoalNetConfig) -> list[str]:
    # From the config, which is what the loss was computed with.
    facts = [
        f"loss: classification + {config.alignment_loss_weight:g} x alignment (AVEL) + "
        f"{config.matching_loss_weight:g} x label matching (MEM)"
    ]
    if config.modality_dropout:
        facts.append(f"modality dropout: {config.modality_dropout:.0%} of the clips lose sound or picture")
    return facts


def _training_facts(training: Training) -> list[str]:
    known = {
        "recipe": training.recipe and f"`{training.recipe}`",
        "epochs": training.num_epochs and f"{training.num_epochs:g}",
        "batch": training.batch_size and counted(training.batch_size, "clip"),
        "learning rate": training.learning_rate and f"{training.learning_rate:g}",
        "schedule": training.schedule,
        "optimiser": training.optimizer,
        "precision": training.precision,
        "frames a second": training.frames_per_second and f"{training.frames_per_second:g}",
        "longest part of a clip": training.max_seconds and f"{training.max_seconds:g} s",
        "time": training.seconds and f"{training.seconds:,.0f} s",
        "hardware": training.hardware,
    }
    return [f"{name}: {value}" for name, value in known.items() if value]


def _run_limits(results: Results) -> list[str]:
    corpus, limits = results.corpus, []
    if corpus.acted:
        limits.append("The emotions of the corpus are acted: they are shown more clearly than in everyday life.")
    if corpus.languages:
        limits.append(f"Language of the corpus: {enumerated(corpus.languages)}. Of others nothing is known.")
    for label, others in results.merged_classes.items():
        if others:
            limits.append(f"It does not tell {enumerated(others)} from {label}: both are called {label}.")
    if results.selection == "test-best-epoch":
        limits.append("Checkpoint chosen on the test session: expect less on clips that it was not chosen by.")
    if not any(test.groups for test in results.conditions.values()):
        limits.append("Its errors were not compared between groups of people.")
    return limits


def _licence_words(license_words: str | None, duty: str | None) -> str:
    words = license_words or _LICENCE_UNKNOWN
    return f"{sentence(words)} {sentence(duty)}" if duty else words


__all__ = [
    "architecture_section",
    "label_names",
    "labels_section",
    "licences_section",
    "limits_section",
    "training_section",
]
