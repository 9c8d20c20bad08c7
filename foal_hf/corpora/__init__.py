"""Loads a corpus by its name: one of the dataset scripts, or a folder of your own clips."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import datasets

from .schema import FEATURES
from .scripts import find_scripts, import_script, script_files, source_hash


FOLDER = "folder"


def available_corpora() -> list[str]:
    """Names that [`load_corpus`] knows: one for each dataset script, and `"folder"`."""
    return [*find_scripts(), FOLDER]


def load_corpus(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    config: str | None = None,
    split: str | None = "train",
    streaming: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    materialize: bool = False,
    materialize_dir: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Any:
    """Load a corpus. Its columns are those of [`~foal_hf.corpora.schema.corpus_features`]; no file is copied.

    Args:
        name (`str`): One of [`available_corpora`]; `"folder"` is a folder of your own clips.
        data_dir (`str` or `os.PathLike`, *optional*): Folder of your copy.
        config (`str`, *optional*): A configuration of the corpus, such as `"four_class"` of IEMOCAP.
        split (`str`, *optional*, defaults to `"train"`): In the notation of `datasets`; None for all splits. A corpus
            without official splits is all `"train"`: [`~foal_hf.corpora.folds.make_folds`] divides it.
        streaming (`bool`, defaults to `False`): Return an `IterableDataset`, and write no cache.
        cache_dir (`str` or `os.PathLike`, *optional*): Where the table of rows is kept. Default: the cache of
            `datasets`. It is written again if an option or a file of the corpus has changed.
        materialize (`bool`, defaults to `False`): Write each clip once as a small mp4 file, cut and cropped; the rows
            refer to these files. See [`~foal_hf.corpora.materialize.materialize`].
        materialize_dir (`str` or `os.PathLike`, *optional*): Folder for these files.
        **options: Of this corpus, such as `on_error="skip"`; an unknown one is an error that lists the known ones.

    Returns:
        `datasets.Dataset` or `datasets.IterableDataset`; with `split=None` a dictionary of them by split.

    Raises:
        ValueError: If the corpus, configuration, option or split is unknown, or the copy is incomplete or damaged.
        FileNotFoundError: If there is no copy.

    Example:

    ```python
    >>> corpus = load_corpus("iemocap", data_dir="IEMOCAP_full_release")
    >>> corpus = load_corpus("folder", data_dir="my_clips", split="test", labels=["angry", "happy", "sad"])
    ```
    """
    _check_materialize(materialize, materialize_dir, streaming)
    builder = make_builder(name, data_dir, config=config, cache_dir=cache_dir, **options)
    if streaming:
        return builder.as_streaming_dataset(split=split)
    builder.download_and_prepare()
    corpus = builder.as_dataset(split=split)
    return _materialized(corpus, Path(materialize_dir), builder) if materialize_dir is not None else corpus


def make_builder(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    config: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    **options: Any,
) -> datasets.DatasetBuilder:
    """The builder that [`load_corpus`] uses, before it has prepared anything.

    The arguments are those of [`load_corpus`]. `builder.skipped` lists the skipped clips once it has prepared.
    """
    builder_class, sources = _builder_class(name)
    configs = list(builder_class.builder_configs)
    if config is not None and config not in configs:
        raise ValueError(f"Unknown configuration {config!r} of {name}; expected one of {', '.join(configs)}.")
    known = _options_of(builder_class)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(
            f"Unknown option {', '.join(unknown)} of {name}; expected one of {', '.join(known) or '(it has none)'}."
        )
    return builder_class(
        cache_dir=None if cache_dir is None else os.fspath(cache_dir),
        dataset_name=name,
        config_name=config,
        data_dir=None if data_dir is None else os.fspath(data_dir),
        hash=source_hash(sources),
        **options,
    )


def _builder_class(name: str) -> tuple[type[datasets.GeneratorBasedBuilder], list[Path]]:
    """The builder of a corpus, and its sources."""
    if name == FOLDER:
        from .folder import FolderCorpus

        return FolderCorpus, sorted(Path(__file__).parent.glob("*.py"))
    if name not in find_scripts():
        raise ValueError(f"Unknown corpus {name!r}; expected one of {', '.join(available_corpora())}.")
    module = import_script(name)
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, datasets.GeneratorBasedBuilder)
        and value.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise ValueError(f"{module.__file__} must define exactly one GeneratorBasedBuilder, but has {len(classes)}.")
    return classes[0], script_files(name)


def _options_of(builder_class: type[datasets.GeneratorBasedBuilder]) -> list[str]:
    common = {field.name for field in dataclasses.fields(datasets.BuilderConfig)}
    return [field.name for field in dataclasses.fields(builder_class.BUILDER_CONFIG_CLASS) if field.name not in common]


def _check_materialize(materialize: bool, materialize_dir: str | os.PathLike[str] | None, streaming: bool) -> None:
    if materialize != (materialize_dir is not None):
        raise ValueError(
            "`materialize=True` needs `materialize_dir`, the folder for the files, and the other way round."
        )
    if materialize and streaming:
        raise ValueError("`materialize=True` writes all clips first, so it does not work with `streaming=True`.")


def _materialized(corpus: Any, folder: Path, builder: datasets.DatasetBuilder) -> Any:
    from .materialize import materialize

    on_error = getattr(builder.config, "on_error", "raise")
    if isinstance(corpus, dict):
        parts = {split: materialize(part, folder / split, on_error=on_error) for split, part in corpus.items()}
        return datasets.DatasetDict(parts)
    return materialize(corpus, folder, on_error=on_error)


__all__ = ["FEATURES", "available_corpora", "load_corpus", "make_builder"]
