"""transformers' own common tests, out of its source distribution, which `make test-transformers` fetches.

The distribution has no subfolders of `tests`: what the common tests import from there stands in here.
"""

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import transformers


FOLDER = Path(sys.prefix) / "transformers-tests" / transformers.__version__
_PACKAGE = "transformers_common_tests"

# Values of common fields that are not their defaults.
_COMMON_FIELDS = {
    "return_dict": False,
    "output_hidden_states": True,
    "chunk_size_feed_forward": 5,
    "architectures": ["FoalNetForEmotionClassification"],
    "id2label": {0: "calm", 1: "afraid", 2: "glad"},
    "label2id": {"calm": 0, "afraid": 1, "glad": 2},
    "problem_type": "multi_label_classification",
}


class ExportTesterMixin:
    """Tests of exporters, which the distribution leaves out; tests/export has ours."""


class GenerationTesterMixin:
    """Tests of `generate`, which Foal-Net does not have."""


_STUBS: dict[str, dict[str, Any]] = {
    f"{_PACKAGE}.exporters.test_export": {"ExportTesterMixin": ExportTesterMixin},
    f"{_PACKAGE}.generation.test_utils": {"GenerationTesterMixin": GenerationTesterMixin},
    f"{_PACKAGE}.utils.test_configuration_utils": {"config_common_kwargs": _COMMON_FIELDS},
    "fetch_hub_objects_for_ci": {"url_to_local_path": lambda url: url},
}


def why_missing() -> str | None:
    """Why the common tests cannot run, or None."""
    if (FOLDER / "test_modeling_common.py").is_file():
        return None
    return f"no tests of transformers {transformers.__version__}: make test-transformers"


def import_common_tests(name: str) -> Any:
    """A module of the common tests, such as `"test_modeling_common"`."""
    if _PACKAGE not in sys.modules:
        package = types.ModuleType(_PACKAGE)
        package.__path__ = [str(FOLDER)]
        sys.modules[_PACKAGE] = package
        for stub, content in _STUBS.items():
            parent = stub.rpartition(".")[0]
            if parent:
                sys.modules.setdefault(parent, types.ModuleType(parent)).__path__ = []
            sys.modules[stub] = types.ModuleType(stub)
            vars(sys.modules[stub]).update(content)
    return importlib.import_module(f"{_PACKAGE}.{name}")
