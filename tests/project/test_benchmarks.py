"""The scripts of benchmarks/, on sizes that say nothing: that they run, compare like with like, and can be reported."""

import json
import sys
from pathlib import Path

import pytest
import torch
from requirements import need
from transformers.utils import logging


BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # scripts: they import each other by name

import annotate_files  # noqa: E402
import ddp  # noqa: E402
import exported  # noqa: E402
import faces  # noqa: E402
import harness  # noqa: E402
import missing_modality  # noqa: E402
import report  # noqa: E402
import startup  # noqa: E402
import stored_features  # noqa: E402


COMMON = ["--short", "--rounds", "1", "--threads", "1"]
LIMITS = harness.Limits(flops_per_second=10.0, bytes_per_second=4.0)


@pytest.fixture(autouse=True)
def _settings_of_the_process():
    """Scripts set them for themselves."""
    verbosity, progress, threads = logging.get_verbosity(), logging.is_progress_bar_enabled(), torch.get_num_threads()
    yield
    logging.set_verbosity(verbosity)
    torch.set_num_threads(threads)
    if progress:
        logging.enable_progress_bar()


def results_of(main, folder: Path, name: str, *arguments: str) -> dict:
    """What a script leaves, after a look at whether a page can be made of it."""
    main([*COMMON, "--output", str(folder), *arguments])
    result = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    page = report.report(folder)
    assert f"### {result['title']}" in page
    assert all(len(row) == len(result["columns"]) for row in result["rows"])
    assert str(folder) not in json.dumps(result) and result["short"]
    return result


def column(result: dict, name: str) -> dict:
    index = list(result["columns"]).index(name)
    return {row[0]: row[index] for row in result["rows"]}


def test_stored_features_are_read_as_they_were_written(tmp_path) -> None:
    clips = stored_features.make_clips(7, frames_per_second=3.0)
    stored_features.write(clips, tmp_path)
    store = stored_features.FeatureStore(tmp_path)
    stored_features.write_arrow(clips, tmp_path / "features.arrow")
    arrow = stored_features.open_arrow(tmp_path / "features.arrow")
    for index, (key, clip) in enumerate(clips.items()):
        torch.testing.assert_close(store.get(key), clip, rtol=0, atol=0, check_dtype=False)
        assert arrow[index].as_py() == clip.numpy().tobytes()


def test_stored_features_are_timed_against_computing_them(tmp_path) -> None:
    sizes = ["--num-clips", "13", "--num-speakers", "2", "--encoder-layers", "1", "--encoder-frames", "1"]
    result = results_of(stored_features.main, tmp_path, "stored_features", *sizes)
    rates = column(result, "clips")
    assert {name: 13 / time["median"] for name, time in column(result, "time").items()} == pytest.approx(rates)
    assert rates[stored_features.READ] > rates[stored_features.AGAIN]  # by five orders of magnitude


def test_annotating_files_is_compared_with_a_plain_loop(tmp_path, monkeypatch) -> None:
    # After each of the 11 files: one second for one of the first 5, three for one of the others.
    used = iter([1.0, 2.0, 3.0, 4.0, 5.0, 8.0, 11.0, 14.0, 17.0, 20.0, 23.0])
    held = iter([100.0, 150.0])
    monkeypatch.setattr(annotate_files, "processor_seconds_of_all", lambda: next(used))
    monkeypatch.setattr(annotate_files, "memory_of_all", lambda: next(held))
    sizes = ["--num-files", "11", "--num-plain", "3", "--num-workers", "1"]
    result = results_of(annotate_files.main, tmp_path, "annotate_files", *sizes)
    rates, ratios = column(result, "files"), column(result, "to the plain loop")
    job, loop = "the job, with its start and its tables", "a plain loop over the pipeline"
    assert ratios[loop] == 1.0 and ratios[job] == pytest.approx(rates[job] / rates[loop])
    assert [each["value"] for each in result["targets"]] == pytest.approx([1000 / rates[job], 3.0, 1.5])


def test_start_up_is_measured_in_fresh_processes(tmp_path, monkeypatch) -> None:
    commands = []
    monkeypatch.setattr(startup, "run", commands.append)
    result = results_of(startup.main, tmp_path, "startup")
    assert {row[0] for row in result["rows"]} >= {"`import foal_hf`", "the classes of transformers", "`foal-hf --help`"}
    code = [command[2] for command in commands if command[1] == "-c"]
    for each in code:
        compile(each, "<benchmark>", "exec")
    monkeypatch.undo()
    startup.run([*startup.command_line(), "--help"])
    exec(startup.CLASSES, {})


def test_exported_checkpoints_give_what_torch_gives(tmp_path, monkeypatch) -> None:
    need("openvino")
    monkeypatch.setattr(exported, "limits", lambda **_: LIMITS)
    monkeypatch.setattr(exported, "in_a_process", lambda function, *args: (function(*args), harness.peak_memory()))
    sizes = ["--layers", "0", "--seconds", "0.5", "--frames", "1"]
    other = "openvino float32"
    result = results_of(exported.main, tmp_path, "exported_0_layers", *sizes, "--ways", other)
    assert column(result, "difference of logits")[other] < 1e-4
    assert column(result, "both, to eager")[exported.EAGER] == 1.0
    assert all(size > 1e8 for size in column(result, "peak memory").values())


def test_two_processes_train_on_the_clips_of_one(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(ddp, "limits", lambda: LIMITS)
    result = results_of(ddp.main, tmp_path, "ddp", "--width", "32", "--batch-size", "4")
    assert set(column(result, "step")) == {ddp.ONE, ddp.TWO_THREADS, ddp.TWO_RANKS, ddp.APART}
    whole = ddp.make_batch(ddp.FoalNetConfig(), 4, rank=0, ranks=1)
    halves = [ddp.make_batch(ddp.FoalNetConfig(), 4, rank=rank, ranks=2) for rank in range(2)]
    for rank, half in enumerate(halves):
        width = half["input_values"].shape[1]
        torch.testing.assert_close(half["input_values"], whole["input_values"][rank::2, :width])
        assert torch.equal(half["labels"], whole["labels"][rank::2])


def test_faces_are_compared_with_the_encoders_that_see_them(tmp_path) -> None:
    need("faces")
    result = results_of(faces.main, tmp_path, "faces", "--seconds", "0.4")
    looks = column(result, "looks of the detector")
    assert {name for name, number in looks.items() if number} == {f"faces, {size}" for size in faces.SIZES}
    assert all(1 <= number <= 2 for number in looks.values() if number)
    assert len(result["targets"]) == 2


def test_missing_modalities_are_counted(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(missing_modality, "SPEAKERS", range(18, 19))
    shares = column(results_of(missing_modality.main, tmp_path, "missing_modality"), 'modality="both"')
    assert shares["sound and picture"] == 1.0 > shares["picture removed"]


def test_ways_take_turns() -> None:
    order: list[str] = []
    times = harness.compare({name: lambda name=name: order.append(name) for name in "abc"}, rounds=2)
    assert "".join(order) == "abc" + "abc" + "bca"
    assert times["a"].low <= times["a"].median <= times["a"].high


def test_a_result_names_no_path_and_says_whether_a_target_is_met(tmp_path, capsys) -> None:
    options = harness.arguments(None, [*COMMON, "--output", str(tmp_path), "--clips", "/a/b/clips"], clips={})
    harness.save(
        "inference",
        "A title",
        {"way": "", "time": "s", "ratio": "x"},
        [["plain", harness.Timing.of([0.2, 0.3, 0.4]), 1.0], ["not here", None, None]],
        options=options,
        targets=[
            harness.target("speed", 1.5, at_least=1.7),
            harness.target("memory", 0.5, at_most=0.6, unit="%"),
            harness.target("on a GPU", None, at_least=3.0),
        ],
    )
    assert report.main([str(tmp_path)]) == 0
    page = capsys.readouterr().out
    assert "| plain | 300 ms (250 ms to 350 ms) | 1.00x |" in page
    assert "| not here | not measured | not measured |" in page
    assert "- speed: at least 1.70x asked for, 1.50x, **missed**" in page
    assert "| memory | cpu | at most 60.0 % | 50.0 % | yes |" in page
    assert "- on a GPU: at least 3.00x asked for, not measured\n" in page
    assert "--clips clips`" in page and "/a/b" not in page
    assert "On a GPU: not measured" in page


def test_an_empty_folder_is_no_report(tmp_path, capsys) -> None:
    assert report.main([str(tmp_path)]) == 2
    assert "holds no results" in capsys.readouterr().err


def test_what_was_written_by_hand_stands_beside_its_table(tmp_path) -> None:
    options = harness.arguments(None, [*COMMON, "--output", str(tmp_path)])
    harness.save("zebra", "Stripes", {"n": ""}, [[3]], options=options)
    (tmp_path / "zebra.md").write_text("It was tried twice.\n")
    assert "It was tried twice." in report.report(tmp_path)


def test_the_page_of_results_is_made_from_them() -> None:
    page = BENCHMARKS / "RESULTS.md"
    assert page.read_text(encoding="utf-8") == report.report(BENCHMARKS / "results")


def test_limits_bound_work_by_operations_or_by_bytes() -> None:
    assert LIMITS.seconds(flops=20.0, num_bytes=4.0) == 2.0
    assert LIMITS.seconds(num_bytes=12.0) == 3.0


def test_a_process_of_its_own_has_its_own_peak_of_memory() -> None:
    numbers, peak = harness.in_a_process(harness.versions)
    assert numbers == harness.versions() and {"av", "torch"} <= numbers.keys()
    assert 1e7 < peak < 1e10
