"""Annotate whole archives: a folder or list of recordings becomes a table of emotions and a manifest of all files.

    summary = annotate("archive", "results.parquet", model="org/foal-net")

The job may be killed at any time and resumes when called again; several processes can share it.
"""

import contextlib
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tqdm.auto import tqdm
from transformers import pipeline

from ..foal_net.recordings_foal_net import MODALITIES
from ..registration import TASK, register
from .engine import DecodeSettings, LocalEngine
from .files import Sources, list_files
from .identity import describe_job
from .job import Job
from .ray_engine import RayEngine, import_ray
from .reading import ClipReader
from .workers import prepare_workers


_ENGINES = ("local", "ray")
_MOST_WORKERS = 8


@dataclass(frozen=True)
class Summary:
    """The outcome of a job.

    Attributes:
        results (`Path`): Parquet file with one row for each clip or segment.
        manifest (`Path`): Parquet file with one row for each file.
        num_files (`int`): Files in the manifest.
        num_done, num_failed, num_pending (`int`): Of them, by status, over all runs and processes so far.
        num_annotated (`int`): Files that this run has finished, failed ones included.
        seconds (`float`): Time from the first file of this run to the last.
        model_seconds (`float`): Part of it spent in the model; 0 on Ray, where it is not measured.
    """

    results: Path
    manifest: Path
    num_files: int
    num_done: int
    num_failed: int
    num_pending: int
    num_annotated: int
    seconds: float
    model_seconds: float


def annotate(
    sources: Sources,
    output: str | os.PathLike[str],
    *,
    model: Any = None,
    modality: Literal["both", "audio", "video", "auto"] = "both",
    window_seconds: float | None = None,
    stride_seconds: float | None = None,
    first_seconds: float | None = None,
    min_score: float | None = None,
    batch_size: int = 8,
    num_workers: int | None = None,
    time_limit_seconds: float = 60.0,
    retry_failed: bool = False,
    all_files: bool = False,
    root: str | os.PathLike[str] | None = None,
    engine: Literal["local", "ray"] = "local",
    num_actors: int | None = None,
    device: Any = None,
    progress: bool = True,
) -> Summary:
    """Predict the emotion in every file of an archive.

    Results are stored in a folder beside the output (`results.job` beside `results.parquet`) as soon as they are
    computed. A killed run resumes there when it is started again, and neither repeats nor loses a file. New and changed
    files are added. Several processes, also on machines that share the folder, can run the same call at the same time:
    each takes files that no other has, and the last to end writes the complete tables. Files that cannot be read, or
    that hang or crash the decoder, are recorded in the manifest; the job continues.

    Args:
        sources: A folder, with everything below it; a text, CSV or TSV file that lists files; or paths.
        output (`str` or `os.PathLike`): Parquet file of the results, one row for each clip or segment: `file` (relative
            to the root), `start_seconds`, `end_seconds`, `label`, `score_<class>` of every class, `modalities`, and
            `reason` if there is no label. The manifest lies beside it, one row for each file: `file`, `status` (`done`,
            `failed`, `pending`), `error_type`, `error`, `duration_seconds`, `num_segments`, `seconds_spent`,
            `attempts`, `size_bytes`, `notes` (what the reader skipped, moved or converted), `model_revision`,
            `fingerprint`. Rows are sorted by file and time.
        model (*optional*): Folder or Hub name of a checkpoint, or a pipeline. Default: the tiny checkpoint of the
            package.
        modality (`"both"`, `"audio"`, `"video"` or `"auto"`, defaults to `"both"`): As in the pipeline.
        window_seconds (`float`, *optional*): Predict each stride of every file from windows of this length, as in the
            pipeline. Default: one row for each file, whose scores are the mean of its windows, as in the pipeline.
        stride_seconds (`float`, *optional*): From the start of a window to the next. Default: half a window.
        first_seconds (`float`, *optional*): Use only this much of each file, from its start. Default: all of it.
        min_score (`float`, *optional*): If the best score is below this, the label is None.
        batch_size (`int`, defaults to 8): Clips per forward pass, from one or more files.
        num_workers (`int`, *optional*): Decoding processes. Default: the number of processors minus one, at most 8.
        time_limit_seconds (`float`, defaults to 60): Time limit for decoding one clip or window. Then the process is
            killed, the file has failed, and the job continues; the same applies if a file crashes the decoder.
        retry_failed (`bool`, defaults to `False`): Retry files that failed in earlier runs.
        all_files (`bool`, defaults to `False`): Try every file of a folder, not only those with a known suffix.
        root (`str` or `os.PathLike`, *optional*): The folder that file names are relative to. Default: the folder, the
            folder of the list, or the current folder.
        engine (`"local"` or `"ray"`, defaults to `"local"`): `"ray"` distributes the files over a Ray cluster, whose
            nodes have to see them under the same paths; it needs the extra `foal-hf[ray]`.
        num_actors (`int`, *optional*): Copies of the model on Ray. Default: one for each GPU; without GPUs, as many as
            the cluster's CPUs allow.
        device (*optional*): Device of the model. Default: as in every pipeline.
        progress (`bool`, defaults to `True`): Show a progress bar.

    Returns:
        [`Summary`]: The paths of the tables, and the number of files that are done, failed and pending. Files are
        pending if another process is annotating them.

    Raises:
        FileNotFoundError: If the sources do not exist.
        ImportError: If a package for decoding, or Ray, is not installed.
        RuntimeError: If the model fails on many files in a row, or the workers do not start.
        ValueError: If the output belongs to another model, other settings or another root; if there are no files; or if
            an argument is invalid.

    Example:

    ```python
    >>> summary = annotate("archive", "results.parquet", model="org/foal-net")
    >>> summary.num_done, summary.num_failed
    (12841, 17)
    ```
    """
    workers = _default_workers() if num_workers is None else num_workers
    decode_settings = DecodeSettings(batch_size, workers, time_limit_seconds, min_score)
    windows = {"window_seconds": window_seconds, "stride_seconds": stride_seconds, "first_seconds": first_seconds}
    _check(decode_settings, windows, modality=modality, engine=engine, num_actors=num_actors)
    files, start = list_files(sources, root=root, all_files=all_files)
    if engine == "local":
        prepare_workers()  # while the model is loaded
    else:
        import_ray()  # before anything is done
    classify = _pipeline(model, "cpu" if engine == "ray" else device)
    config = classify.model.config
    labels = [config.id2label[index] for index in range(config.num_labels)]
    reader = ClipReader(classify.processor, config.shortest_sound, modality, **windows)
    description = describe_job(classify, labels=labels, modality=modality, min_score=min_score, **windows)
    begun, num_annotated, model_seconds = time.perf_counter(), 0, 0.0
    with Job(Path(output), description, start, labels, getattr(config, "_commit_hash", None)) as job:
        files = [file for file in files if not job.is_own(file)]
        try:
            with (
                tqdm(total=len(files), initial=job.num_settled(files), unit="file", disable=not progress) as bar,
                _engine(engine, job, classify, reader, decode_settings, num_actors, device) as running,
                contextlib.closing(running.records(job.take(files, retry_failed=retry_failed))) as records,
            ):
                for record in records:
                    job.add(record)
                    num_annotated += 1
                    bar.update()
                model_seconds = running.model_seconds
        finally:
            numbers = job.collect(files)
    return Summary(
        results=job.results,
        manifest=job.manifest,
        num_files=sum(numbers.values()),
        num_annotated=num_annotated,
        seconds=time.perf_counter() - begun,
        model_seconds=model_seconds,
        **{f"num_{status}": number for status, number in numbers.items()},
    )


def _engine(
    engine: str,
    job: Job,
    classify: Any,
    reader: ClipReader,
    decode_settings: DecodeSettings,
    num_actors: int | None,
    device: Any,
) -> Any:
    if engine == "local":
        return LocalEngine(classify, reader, decode_settings)
    if not job.take_all():
        raise ValueError(
            f"Another process is working on {job.results}. Ray distributes the files itself: wait until the other "
            "process ends, or use `engine='local'`."
        )
    return RayEngine(classify, reader, decode_settings, num_actors=num_actors, device=device)


def _pipeline(model: Any, device: Any) -> Any:
    if hasattr(model, "postprocess"):  # a pipeline already
        return model
    register()
    return pipeline(TASK, model=model, device=device)  # type: ignore[call-overload]


def _default_workers() -> int:
    num_processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(_MOST_WORKERS, num_processors - 1))


def _check(
    decode_settings: DecodeSettings,
    windows: Mapping[str, float | None],
    *,
    modality: str,
    engine: str,
    num_actors: int | None,
) -> None:
    for name, value, choices in (("modality", modality, tuple(MODALITIES)), ("engine", engine, _ENGINES)):
        if value not in choices:
            raise ValueError(f"Unknown `{name}` {value!r}; expected one of {', '.join(choices)}.")
    numbers = {
        "batch_size": decode_settings.batch_size,
        "num_workers": decode_settings.num_workers,
        "num_actors": num_actors,
    }
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise ValueError(f"`{name}` has to be 1 or more, got {number}.")
    for name, seconds in {**windows, "time_limit_seconds": decode_settings.time_limit_seconds}.items():
        if seconds is not None and not (seconds > 0 and math.isfinite(seconds)):
            raise ValueError(f"`{name}` has to be above 0, got {seconds}.")
    if decode_settings.min_score is not None and not 0 <= decode_settings.min_score <= 1:
        raise ValueError(f"`min_score` has to lie between 0 and 1, got {decode_settings.min_score}.")
    window, stride = windows["window_seconds"], windows["stride_seconds"]
    if stride is not None and (window is None or stride > window):
        raise ValueError(f"`stride_seconds` has to be at most `window_seconds` = {window}, got {stride}.")


__all__ = ["Summary", "annotate"]
