"""transformers' own common tests of configs and models, on ours."""

import unittest
import unittest.mock
from typing import Any

import torch
from requirements import need
from tiny_models import tiny_config


need("transformers-tests")

from transformers_tests import import_common_tests  # noqa: E402

from foal_hf import FoalNetConfig, FoalNetForEmotionClassification, FoalNetModel  # noqa: E402


modeling = import_common_tests("test_modeling_common")
configuration = import_common_tests("test_configuration_common")
# As if Foal-Net were one of the models of transformers: it is given labels, and its base model needs no loss.
modeling.MODEL_MAPPING_NAMES["foal_net"] = "FoalNetModel"
modeling.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES["foal_net"] = "FoalNetForEmotionClassification"


class FoalNetTester:
    """What the common tests ask of a model: its config, a batch, and the sizes that they should find."""

    batch_size = 3
    is_training = True
    # Cross-attention: a layer in each direction, first from 12 audio frames to 7 frames of video.
    num_hidden_layers = 2
    expected_num_hidden_layers = 2
    num_attention_heads = 4
    seq_length, key_length, hidden_size = 12, 7, 32
    # Of the encoders, for `get_audio_features` and `get_video_features`.
    audio_config = {"num_hidden_layers": 2}
    video_config = {"num_hidden_layers": 2}

    def __init__(self, parent: Any) -> None:
        self.parent = parent

    def get_config(self) -> FoalNetConfig:
        config = tiny_config(num_fusion_layers=1)
        # The tests expect video features as wide as the hidden states of the image encoder.
        config.vision_config.projection_dim = config.vision_config.hidden_size
        return config

    def prepare_config_and_inputs_for_common(self) -> tuple[FoalNetConfig, dict[str, torch.Tensor]]:
        inputs = {
            "input_values": modeling.floats_tensor([self.batch_size, 4003]),
            "attention_mask": torch.ones(self.batch_size, 4003, dtype=torch.long),
            "pixel_values_videos": modeling.floats_tensor([self.batch_size, 7, 3, 26, 26]),
            "padding_mask_videos": torch.ones(self.batch_size, 7, dtype=torch.long),
        }
        return self.get_config(), inputs


class TestModel(modeling.ModelTesterMixin, unittest.TestCase):
    all_model_classes = (FoalNetForEmotionClassification, FoalNetModel)
    test_resize_embeddings = False
    _is_composite = True

    # There are no tokens, so no embeddings of them.
    test_model_get_set_embeddings = None
    # Refused, because WavLM recurses without end: tests/foal_net/test_modeling.py.
    test_training_gradient_checkpointing_use_reentrant_true = None

    def setUp(self) -> None:
        self.model_tester = FoalNetTester(self)
        self.config_tester = configuration.ConfigTester(
            self, config_class=FoalNetConfig, has_text_modality=False, common_properties=[]
        )

    def test_problem_types(self) -> None:
        # The common test is for text classifiers alone.
        names = modeling.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
        with unittest.mock.patch.dict(names, foal_net="FoalNetForEmotionClassification"):
            super().test_problem_types()

    def test_config(self) -> None:
        self.config_tester.run_common_tests()
