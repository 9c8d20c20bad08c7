"""Fingerprints: equal for equal things, different for anything that changes results."""

import hashlib
from pathlib import Path

import torch

from foal_hf.identity import as_stored, digest_of, digest_of_file, digest_of_tensors, without_provenance


def test_the_digest_of_a_value_does_not_depend_on_the_order_of_its_keys() -> None:
    assert digest_of({"a": 1, "b": [2.5, None]}) == digest_of({"b": [2.5, None], "a": 1})
    assert digest_of({"a": 1}) == hashlib.sha256(b'{"a": 1}').hexdigest()
    assert len({digest_of({"a": 1}), digest_of({"a": 2}), digest_of({"b": 1}), digest_of({"a": "1"})}) == 4


def test_a_value_as_stored_equals_what_comes_back_from_a_file() -> None:
    assert as_stored({"size": (3, 5), 7: Path("a")}) == {"size": [3, 5], "7": "a"}


def test_the_digest_of_tensors_tells_values_shapes_types_and_names_apart() -> None:
    tensor = torch.arange(6.0)
    same = {"weight": tensor.reshape(2, 3).t().contiguous().t(), "bias": tensor}
    assert digest_of_tensors(same) == digest_of_tensors({"bias": tensor.clone(), "weight": tensor.reshape(2, 3)})
    others = [
        {"weight": tensor.reshape(3, 2), "bias": tensor},
        {"weight": tensor.reshape(2, 3), "bias": tensor + 1e-6},
        {"weight": tensor.reshape(2, 3), "bias": tensor.int().view(torch.float32)},
        {"weight": tensor.reshape(2, 3), "offset": tensor},
        {"bias": tensor.reshape(2, 3), "weight": tensor},
    ]
    assert len({digest_of_tensors(same), *map(digest_of_tensors, others)}) == 6
    zeros = torch.zeros(2)
    assert digest_of_tensors({"a": zeros}) != digest_of_tensors({"a": zeros.view(torch.int32)})


def test_a_config_without_its_provenance_keeps_everything_that_changes_results() -> None:
    config = {"hidden_size": 7, "_name_or_path": "a", "audio_config": {"dtype": "float16", "layers": [{"dtype": 3}]}}
    assert without_provenance(config) == {"hidden_size": 7, "audio_config": {"layers": [{"dtype": 3}]}}


def test_the_digest_of_tensors_takes_types_that_numpy_does_not_have() -> None:
    assert digest_of_tensors({"a": torch.ones(3, dtype=torch.bfloat16)}) != digest_of_tensors({"a": torch.ones(3)})


def test_the_digest_of_a_file_is_that_of_its_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    assert digest_of_file(tmp_path / "a") == hashlib.sha256(b"content").hexdigest()
