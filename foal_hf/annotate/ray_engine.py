"""The same job on Ray Data: every actor has its own model and decode workers, and processes a batch of files at a time.

The calling process distributes the files and stores the records, so a killed job resumes as on one machine, with either
engine. Ray replaces lost nodes.
"""

import math
import os
from collections.abc import Generator, Iterable
from typing import Any, Self

from ..foal_net.pipeline_foal_net import AudioVideoEmotionPipeline
from .engine import DecodeSettings, LocalEngine
from .job import Task
from .journals import Record
from .reading import ClipReader


_FILES_PER_BATCH = 64  # of an actor; their records come back together
_MOST_BLOCKS = 1000
_TIMES = ("start_seconds", "end_seconds")


class RayEngine:
    """Annotates files on the Ray cluster of `RAY_ADDRESS` or of this machine; starts a local one if there is none.

    Args:
        classify ([`AudioVideoEmotionPipeline`]): Its model and processor are sent to the actors.
        reader ([`ClipReader`]): Reads the files in the actors' workers.
        decode_settings ([`DecodeSettings`]): Of every actor.
        num_actors (`int`, *optional*): Default: as many as the cluster's resources allow.
        device (*optional*): Device of the actors' models. Default: one GPU each if the cluster has any, else the CPU.

    Raises:
        ImportError: If Ray is not installed.
        RuntimeError: If the cluster's resources do not suffice for one actor.
    """

    model_seconds = 0.0  # not reported by the actors

    def __init__(
        self,
        classify: Any,
        reader: ClipReader,
        decode_settings: DecodeSettings,
        *,
        num_actors: int | None = None,
        device: Any = None,
    ) -> None:
        ray = import_ray()
        if not ray.is_initialized():
            ray.init()
        ray.data.DataContext.get_current().enable_progress_bars = False  # the job has its own
        resources = ray.cluster_resources()
        has_gpu = resources.get("GPU", 0) >= 1 if device is None else not str(device).startswith("cpu")
        self._needs: dict[str, Any] = {"num_cpus": decode_settings.num_workers + 1, "num_gpus": int(has_gpu)}
        self._num_actors = num_actors or _most_actors(resources, **self._needs)
        self._arguments = {
            "parts": ray.put(_parts(classify)),
            "reader": reader,
            "decode_settings": decode_settings,
            "device": device,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass  # Ray stops the actors when their work is done

    def records(self, tasks: Iterable[Task]) -> Generator[Record]:
        """A record for each file, in the order of arrival.

        Args:
            tasks (`Iterable[Task]`): Every node has to see the files under the same paths.
        """
        ray = import_ray()
        rows = [_as_row(task) for task in tasks]
        if not rows:
            return
        num_actors = min(self._num_actors, len(rows))
        num_blocks = min(max(num_actors, math.ceil(len(rows) / _FILES_PER_BATCH)), _MOST_BLOCKS)
        found = ray.data.from_items(rows, override_num_blocks=num_blocks).map_batches(
            FileAnnotator,
            fn_constructor_kwargs=self._arguments,
            batch_size=_FILES_PER_BATCH,
            compute=ray.data.ActorPoolStrategy(size=num_actors),
            **self._needs,
        )
        for row in found.iter_rows():
            yield Record.from_json(row["record"])


class FileAnnotator:
    """An actor: a local engine that processes batches of files."""

    def __init__(self, parts: Any, reader: ClipReader, decode_settings: DecodeSettings, device: Any) -> None:
        model_class, config, dtype, weights, processor = import_ray().get(parts)
        model = model_class(config).to(dtype)
        model.load_state_dict(weights)
        classify = AudioVideoEmotionPipeline(model=model.eval(), processor=processor, device=device)
        self._engine = LocalEngine(classify, reader, decode_settings)  # its workers end with the actor's process

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Rows of tasks to rows of records, as JSON."""
        columns = [batch[name].tolist() for name in Task._fields]
        tasks = (_as_task(*row) for row in zip(*columns, strict=True))
        return {"record": [record.to_json() for record in self._engine.records(tasks)]}


def import_ray() -> Any:
    """The package `ray`.

    Raises:
        ImportError: If it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else a local cluster reports usage statistics
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError(f"`engine='ray'` needs Ray ({error}): pip install 'foal-hf[ray]'") from error
    return ray


def _parts(classify: Any) -> tuple[Any, ...]:
    """The parts that an actor builds the pipeline from. WavLM's weight norm keeps a model from being pickled."""
    model = classify.model
    weights = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    return type(model), model.config, model.dtype, weights, classify.processor


def _as_row(task: Task) -> dict[str, Any]:
    times = {name: math.nan if (time := getattr(task, name)) is None else time for name in _TIMES}
    return {**task._asdict(), **times, "path": os.fsencode(task.path)}  # a path may not be valid UTF-8


def _as_task(*row: Any) -> Task:
    task = Task(*row)
    start, end = (None if math.isnan(time := getattr(task, name)) else time for name in _TIMES)
    return task._replace(path=os.fsdecode(task.path), start_seconds=start, end_seconds=end)


def _most_actors(resources: dict[str, float], num_cpus: int, num_gpus: int) -> int:
    most = int(resources.get("CPU", 0) // num_cpus)
    if num_gpus:
        most = min(most, int(resources.get("GPU", 0) // num_gpus))
    if most < 1:
        raise RuntimeError(
            f"The Ray cluster has {resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs; one actor "
            f"needs {num_cpus} CPUs (`num_workers` + 1) and {num_gpus} GPUs. Reduce `num_workers`, or add nodes."
        )
    return most


__all__ = ["FileAnnotator", "RayEngine", "import_ray"]
