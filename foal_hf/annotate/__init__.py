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

from ..foal_net.faces_foal_net import FACES
from ..foal_net.recordings_foal_net import MODALITIES, check_media, features_taken, reader_of_faces
from ..foal_net.timeline_foal_net import is_regression
from ..registration import load_pipeline
from ..worker_server import prepare_workers
from .engine import DecodeSettings, LocalEngine
from .files import Sources, list_files
from .identity import describe_job
from .job import Job, JobPaths
from .ray_engine import RayEngine, import_ray
from .reading import ClipReader
from .workers import TimeLimits


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
        skipped (`dict[str, int]`): Number of files of the folder that were skipped, by reason. They are not in the
            manifest.
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
    skipped: dict[str, int]


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
    file_time_limit_seconds: float | None = None,
    max_pixels: int | None = None,
    faces: Literal["auto", "off"] = "auto",
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
    each takes files that no other has. At the end each waits for the others, and takes over the files of a process that
    was killed. Files that cannot be read, or that hang or crash the decoder, are recorded in the manifest; the job
    continues.

    Args:
        sources: A folder, with everything below it; a list of files; or paths. A text list has one path on each line;
            `#` starts a comment. A CSV or TSV table has a column `file` (or `file_name`, `path`, `video`, `audio`), and
            may have `start_seconds` and `end_seconds` to annotate a range; ranges of one file are separate.
        output (`str` or `os.PathLike`): Parquet file of the results, one row for each clip or segment: `file` (relative
            to the root), `start_seconds`, `end_seconds`, `label`, `score` (the best one), `score_<class>` of every
            class, `modalities`, `audio_<measure>` and `video_<measure>` (the evidence, see `measure_evidence`; speech
            is not detected), `reason` if there is no label, and `notes`: the columns of `foal-hf predict --csv`. The
            manifest lies beside it, one row for each file or range: `file`, `start_seconds` and `end_seconds` (of the
            range), `status` (`done`, `failed`, `pending`), `error_type`, `error`, `duration_seconds`, `num_segments`,
            `seconds_spent`, `attempts`, `size_bytes`, `notes` (what the reader skipped, moved or converted),
            `model_revision`, `fingerprint`. Rows are sorted by file and time.
        model (*optional*): Folder or Hub name of a checkpoint, or a pipeline. Default: foal-net-small.
        modality (`"both"`, `"audio"`, `"video"` or `"auto"`, defaults to `"both"`): As in the pipeline.
        window_seconds (`float`, *optional*): Predict each stride of every file from windows of this length, as in the
            pipeline. Default: one row for each file, whose scores are the mean of its windows, as in the pipeline.
        stride_seconds (`float`, *optional*): From the start of a window to the next. Default: half a window.
        first_seconds (`float`, *optional*): Use only this much of each file, from its start. Default: all of it.
        min_score (`float`, *optional*): If the best score is below this, the label is None.
        batch_size (`int`, defaults to 8): Clips per forward pass, from one or more files.
        num_workers (`int`, *optional*): Decoding processes. Default: the number of processors minus one, at most 8.
        time_limit_seconds (`float`, defaults to 60): Time limit for decoding one clip or window; windows without
            content share one limit. Then the process is killed, the file has failed, and the job continues; the same
            applies if a file crashes the decoder.
        file_time_limit_seconds (`float`, *optional*): Time limit for decoding one file. Default: 60 times
            `time_limit_seconds`.
        max_pixels (`int`, *optional*): Limit of the pixels of one frame, as in [`MediaFile`].
        faces (`"auto"` or `"off"`, defaults to `"auto"`): As in the pipeline. Results of a checkpoint that was trained
            on faces also have `video_crop` (`"face"` or `"frame"`), `video_frames`, `video_frames_with_face` and
            `video_face_box`.
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
        [`Summary`]: The paths of the tables, and the number of files that are done, failed and pending.

    Raises:
        FileNotFoundError: If the sources do not exist.
        ImportError: If a package for decoding, or Ray, is not installed.
        RuntimeError: If the model fails on many files in a row, or the workers do not start.
        ValueError: If the output belongs to another model, other settings or another root; if there are no files or a
            list is wrong; or if an argument is invalid.

    Example:

    ```python
    >>> summary = annotate("archive", "results.parquet", model="org/foal-net")
    >>> summary.num_done, summary.num_failed
    (12841, 17)
    ```
    """
    workers = _default_workers() if num_workers is None else num_workers
    limits = TimeLimits(time_limit_seconds, file_time_limit_seconds)
    decode_settings = DecodeSettings(batch_size, workers, limits, min_score)
    windows = {"window_seconds": window_seconds, "stride_seconds": stride_seconds, "first_seconds": first_seconds}
    choices = {"modality": modality, "engine": engine, "faces": faces}
    _check(decode_settings, windows, choices, num_actors=num_actors, max_pixels=max_pixels)
    paths = JobPaths.of(output)
    listed = list_files(sources, root=root, all_files=all_files, outputs=[path.absolute() for path in paths])
    if engine == "local":
        prepare_workers()  # while the model is loaded
    else:
        import_ray()  # before anything is done
    is_pipeline = hasattr(model, "postprocess")
    classify = model if is_pipeline else load_pipeline(model, "cpu" if engine == "ray" else device)
    config = classify.model.config
    if min_score is not None and is_regression(config):
        raise ValueError("`min_score` is for probabilities, but this model predicts numbers (regression).")
    check_media(MODALITIES[modality], features_taken(config))
    labels = [config.id2label[index] for index in range(config.num_labels)]
    of_faces = reader_of_faces(classify.processor, faces, modality)
    reader = ClipReader(
        classify.processor, config.shortest_sound, modality, **windows, max_pixels=max_pixels, faces=of_faces
    )
    settings = {"labels": labels, "modality": modality, "min_score": min_score, **windows}
    if of_faces:  # jobs of other checkpoints keep their name
        settings["faces"] = of_faces.get("without_faces", "found")
    description = describe_job(classify, **settings)
    begun, num_annotated, model_seconds = time.perf_counter(), 0, 0.0
    with Job(paths, description, listed.root, labels, getattr(config, "_commit_hash", None)) as job:
        waiting = listed.files
        try:
            with (
                tqdm(total=len(waiting), initial=job.num_settled(waiting), unit="file", disable=not progress) as bar,
                _engine(engine, job, classify, reader, decode_settings, num_actors, device) as running,
            ):
                while waiting:
                    tasks = job.take(waiting, retry_failed=retry_failed)
                    with contextlib.closing(running.records(tasks)) as records:
                        for record in records:
                            job.add(record)
                            num_annotated += 1
                            bar.update()
                    waiting = job.wait_for_others()
                model_seconds = running.model_seconds
        finally:
            numbers = job.collect(listed.files)
    return Summary(
        results=job.results,
        manifest=job.manifest,
        num_files=sum(numbers.values()),
        num_annotated=num_annotated,
        seconds=time.perf_counter() - begun,
        model_seconds=model_seconds,
        skipped=listed.skipped,
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


def _default_workers() -> int:
    num_processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(_MOST_WORKERS, num_processors - 1))


def _check(
    decode_settings: DecodeSettings,
    windows: Mapping[str, float | None],
    choices: Mapping[str, str],
    *,
    num_actors: int | None,
    max_pixels: int | None,
) -> None:
    known = {"modality": tuple(MODALITIES), "engine": _ENGINES, "faces": FACES}
    for name, value in choices.items():
        if value not in known[name]:
            raise ValueError(f"Unknown `{name}` {value!r}; expected one of {', '.join(known[name])}.")
    numbers = {
        "batch_size": decode_settings.batch_size,
        "num_workers": decode_settings.num_workers,
        "num_actors": num_actors,
        "max_pixels": max_pixels,
    }
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise ValueError(f"`{name}` has to be 1 or more, got {number}.")
    limits = {
        "time_limit_seconds": decode_settings.limits.window_seconds,
        "file_time_limit_seconds": decode_settings.limits.file_seconds,
    }
    for name, seconds in {**windows, **limits}.items():
        if seconds is not None and not (seconds > 0 and math.isfinite(seconds)):
            raise ValueError(f"`{name}` has to be above 0, got {seconds}.")
    if decode_settings.min_score is not None and not 0 <= decode_settings.min_score <= 1:
        raise ValueError(f"`min_score` has to lie between 0 and 1, got {decode_settings.min_score}.")
    window, stride = windows["window_seconds"], windows["stride_seconds"]
    if stride is not None and (window is None or stride > window):
        raise ValueError(f"`stride_seconds` has to be at most `window_seconds` = {window}, got {stride}.")


__all__ = ["Summary", "annotate"]
