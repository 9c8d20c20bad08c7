"""transformers' own common tests of processors and video processors, on ours."""

import unittest
from typing import Any

from requirements import need


need("transformers-tests")

from transformers import Wav2Vec2FeatureExtractor  # noqa: E402
from transformers.utils import is_torchvision_available  # noqa: E402
from transformers_tests import import_common_tests  # noqa: E402

from foal_hf import FoalNetProcessor, FoalNetVideoProcessor  # noqa: E402


processing = import_common_tests("test_processing_common")
video_processing = import_common_tests("test_video_processing_common")
SIZES = {"size": {"shortest_edge": 20}, "crop_size": {"height": 18, "width": 18}}


class TestProcessor(processing.ProcessorTesterMixin, unittest.TestCase):
    processor_class = FoalNetProcessor
    audio_input_name = "input_values"

    @classmethod
    def _setup_feature_extractor(cls) -> Wav2Vec2FeatureExtractor:
        return Wav2Vec2FeatureExtractor(return_attention_mask=True)

    @classmethod
    def _setup_video_processor(cls) -> FoalNetVideoProcessor:
        return FoalNetVideoProcessor(**SIZES)

    def prepare_audio_inputs(self, batch_size: int | None = None) -> list[dict[str, Any]]:
        # The tests give arrays alone, whose sampling rate nobody knows: ours refuses them.
        return [{"array": array, "sampling_rate": 16_000} for array in super().prepare_audio_inputs(batch_size)]

    def _prepare_modality_input(self, modality: str, batch_size: int | None = None) -> Any:
        if modality == "audio":  # for the feature extractor, which takes arrays
            return super().prepare_audio_inputs(batch_size)
        return super()._prepare_modality_input(modality, batch_size)


class VideoProcessorTester:
    """What the common tests ask of a video processor."""

    batch_size, num_frames, num_channels = 5, 8, 3
    crop_size = SIZES["crop_size"]

    def expected_output_video_shape(self, videos: Any) -> tuple[int, ...]:
        return self.num_frames, self.num_channels, 18, 18

    def prepare_video_inputs(self, equal_resolution: bool = False, return_tensors: str = "pil") -> Any:
        return video_processing.prepare_video_inputs(
            batch_size=self.batch_size,
            num_frames=self.num_frames,
            num_channels=self.num_channels,
            min_resolution=30,
            max_resolution=80,
            equal_resolution=equal_resolution,
            return_tensors=return_tensors,
        )


class TestVideoProcessor(video_processing.VideoProcessingTestMixin, unittest.TestCase):
    fast_video_processing_class = FoalNetVideoProcessor
    test_cast_dtype = True

    def setUp(self) -> None:
        super().setUp()
        self.video_processor_tester = VideoProcessorTester()

    @property
    def video_processor_dict(self) -> dict[str, Any]:
        return {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "do_normalize": True, "do_resize": True, **SIZES}


# These use AutoVideoProcessor, which transformers has with torchvision alone: `make test-transformers` runs them too.
if not is_torchvision_available():
    TestProcessor.test_processor_from_and_save_pretrained_as_nested_dict = None
    TestProcessor.test_processor_from_pretrained_vs_from_components = None
    TestProcessor.test_subprocessor_defaults_2_videos = None
    TestProcessor.test_subprocessor_defaults_3_audio = None
    TestVideoProcessor.test_video_processor_save_load_with_autovideoprocessor = None
