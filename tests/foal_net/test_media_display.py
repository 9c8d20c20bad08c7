"""Frames are what a player shows: upright, with square pixels, in the right colours; and pictures that are no video."""

import base64
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from media_builders import make_clip, run_ffmpeg

from foal_hf.foal_net.media_foal_net import MediaFile, read_clip
from foal_hf.foal_net.sources_foal_net import MediaError


WIDTH, HEIGHT = 46, 34
# A frame without any symmetry: a red, a green and a blue corner.
CORNERS = (
    f"color=c=black:s={WIDTH}x{HEIGHT}:r=5:d=0.4,drawbox=w=16:h=10:c=red:t=fill,"
    f"drawbox=x={WIDTH - 12}:w=12:h=8:c=lime:t=fill,drawbox=y={HEIGHT - 6}:w=20:h=6:c=blue:t=fill"
)
ORIENTATIONS = {
    "as it is": (1, 0, 0, 1),
    "mirrored": (-1, 0, 0, 1),
    "upside down": (1, 0, 0, -1),
    "half a turn": (-1, 0, 0, -1),
    "a quarter clockwise": (0, 1, -1, 0),
    "a quarter counterclockwise": (0, -1, 1, 0),
    "transposed": (0, 1, 1, 0),
    "transposed the other way": (0, -1, -1, 0),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("display")


def turned(flat: Path, path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """A copy of an mp4 whose header asks players to map (x, y) to (ax + cy, bx + dy), as cameras write it."""
    data = bytearray(flat.read_bytes())
    a, b, c, d = (number << 16 for number in matrix)
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def shown_by_ffmpeg(path: Path, *options: str) -> np.ndarray:
    """The first frame as the ffmpeg command shows it."""
    ppm = ("-frames:v", "1", "-f", "image2pipe", "-c:v", "ppm", "-")
    data = subprocess.run(["ffmpeg", "-v", "error", "-i", path, *options, *ppm], capture_output=True, check=True).stdout
    _, size, _, pixels = data.split(b"\n", 3)
    width, height = map(int, size.split())
    return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)


def differs(frame: torch.Tensor, image: np.ndarray) -> float:
    assert frame.shape[1:] == image.shape[:2]
    return (frame.movedim(0, -1).float() - torch.from_numpy(image.copy()).float()).abs().mean().item()


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_all_eight_orientations_are_shown_as_by_ffmpeg(folder: Path, orientation: str) -> None:
    flat = make_clip(folder / "flat.mp4", video=CORNERS, audio=None)
    path = turned(flat, folder / "turned.mp4", ORIENTATIONS[orientation])
    assert differs(read_clip(path).frames[0], shown_by_ffmpeg(path)) < 1.5
    with MediaFile(path, in_order=True) as media:
        assert media.read().frames.equal(read_clip(path).frames)


@pytest.mark.parametrize("aspect", ["2", "1/2", "4/3", "16/15"])
def test_pixels_are_square_however_they_are_stored(folder: Path, aspect: str) -> None:
    path = make_clip(folder / "wide.mp4", "-vf", f"setsar={aspect}", video=CORNERS, audio=None)
    expected = shown_by_ffmpeg(path, "-vf", "scale='round(iw*sar)':ih:flags=bicubic,setsar=1")
    assert differs(read_clip(path).frames[0], expected) < 4


def test_pixels_are_square_before_the_frame_is_turned(folder: Path) -> None:
    flat = make_clip(folder / "flat_wide.mp4", "-vf", "setsar=2", video=CORNERS, audio=None)
    path = turned(flat, folder / "turned_wide.mp4", ORIENTATIONS["a quarter clockwise"])
    frame = read_clip(path).frames[0]
    assert frame.shape == (3, 2 * WIDTH, HEIGHT)
    red = frame[0].float() - frame[1:].float().amax(0) > 100
    rows, columns = red.nonzero(as_tuple=True)
    assert (rows.min().item(), rows.max().item()) == pytest.approx((0, 31), abs=2)
    assert (columns.min().item(), columns.max().item()) == pytest.approx((HEIGHT - 10, HEIGHT - 1), abs=2)


def test_a_crop_box_counts_pixels_of_the_frame_as_it_is_shown(folder: Path) -> None:
    path = make_clip(folder / "crop.mp4", "-vf", "setsar=2", video=CORNERS, audio=None)
    whole = read_clip(path).frames
    assert read_clip(path, crop_box=(70, 3, 2 * WIDTH, 20)).frames.equal(whole[:, :, 3:20, 70:])
    with pytest.raises(MediaError, match=f"frame as it is shown, which is {2 * WIDTH} pixels wide and {HEIGHT} high"):
        read_clip(path, crop_box=(0, 0, 2 * WIDTH + 1, HEIGHT))


def test_an_impossible_pixel_aspect_ratio_is_no_reason_for_a_huge_frame(folder: Path) -> None:
    path = make_clip(folder / "sar.mkv", "-vf", "setsar=30000", video=CORNERS, audio=None)
    assert read_clip(path).frames.shape[1:] == (3, HEIGHT, WIDTH)


@pytest.mark.parametrize(("transfer", "kind"), [("arib-std-b67", "HLG"), ("smpte2084", "PQ")])
@pytest.mark.parametrize("colour", [(192, 128, 96), (20, 20, 20), (35, 90, 140), (150, 160, 170)])
def test_high_dynamic_range_is_shown_in_the_colours_that_were_meant(
    folder: Path, transfer: str, kind: str, colour: tuple[int, int, int]
) -> None:
    path = hdr(folder, transfer, colour)
    clip = read_clip(path)
    assert clip.frames[0, :, 17, 23].tolist() == pytest.approx(colour, abs=3)
    assert clip.notes == (f"HDR video ({kind}) is shown in BT.709",)


@pytest.mark.parametrize("transfer", ["arib-std-b67", "smpte2084"])
def test_highlights_are_compressed_below_white_and_keep_their_order(folder: Path, transfer: str) -> None:
    greys = [
        read_clip(hdr(folder, transfer, (200, 200, 200), nits)).frames[0, :, 17, 23].tolist()
        for nits in (100, 250, 900)
    ]
    assert all(max(grey) - min(grey) <= 2 for grey in greys)
    assert 195 < greys[0][0] < greys[1][0] < greys[2][0] <= 255


def hdr(folder: Path, transfer: str, colour: tuple[int, int, int], nits: int = 100) -> Path:
    """One colour in high dynamic range, SDR white at so many nits."""
    path = folder / f"{transfer}{colour[0]}_{nits}.mp4"
    source = f"color=c=0x{bytes(colour).hex()}:s={WIDTH}x{HEIGHT}:r=5:d=0.4,format=gbrp"
    convert = f"zscale=tin=bt709:pin=bt709:min=gbr:rin=full:t={transfer}:p=bt2020:m=bt2020nc:r=limited:npl={nits}"
    tags = ("-color_primaries", "bt2020", "-color_trc", transfer, "-colorspace", "bt2020nc")
    codec = ("-c:v", "libx265", "-x265-params", "log-level=none:lossless=1")
    run_ffmpeg("-f", "lavfi", "-i", source, "-vf", f"{convert},format=yuv420p10le", *codec, *tags, path)
    return path


def test_ten_bits_of_standard_range_are_shown_as_they_are(folder: Path) -> None:
    codec = ("-c:v", "libx265", "-x265-params", "log-level=none:lossless=1", "-pix_fmt", "yuv420p10le")
    path = folder / "ten.mp4"
    run_ffmpeg("-f", "lavfi", "-i", f"color=c=0xC08060:s={WIDTH}x{HEIGHT}:r=5:d=0.4", *codec, path)
    clip = read_clip(path)
    assert clip.frames[0, :, 17, 23].tolist() == pytest.approx((192, 128, 96), abs=4)
    assert clip.notes == ()


def with_chapter_images(folder: Path) -> Path:
    """An audiobook: the audio track refers to a track of images as its chapters."""
    path = folder / "book.m4b"
    images = ("-f", "lavfi", "-i", f"testsrc2=s={WIDTH}x{HEIGHT}:r=1:d=3")
    run_ffmpeg(
        "-f",
        "lavfi",
        "-i",
        "sine=d=3",
        *images,
        "-map",
        0,
        "-map",
        1,
        "-c:a",
        "aac",
        "-c:v",
        "mjpeg",
        "-f",
        "mp4",
        path,
    )
    data = bytearray(path.read_bytes())
    moov = data.index(b"moov") - 4
    audio = data.index(b"trak", moov) - 4  # the first track
    tracks = [data.index(b"tkhd", moov), data.rindex(b"tkhd")]
    images_id = struct.unpack_from(">I", data, tracks[1] + 16)[0]
    reference = struct.pack(">I4sI4sI", 20, b"tref", 12, b"chap", images_id)
    end = audio + struct.unpack_from(">I", data, audio)[0]
    for box in (moov, audio):
        struct.pack_into(">I", data, box, struct.unpack_from(">I", data, box)[0] + len(reference))
    data[end:end] = reference
    path.write_bytes(data)
    return path


def test_chapter_images_are_no_video_of_a_person(folder: Path) -> None:
    path = with_chapter_images(folder)
    clip = read_clip(path)
    assert clip.modalities == ("audio",)
    assert clip.end_seconds == pytest.approx(3.0, abs=0.05)
    with pytest.raises(MediaError, match="holds no video"):
        read_clip(path, modalities=("video",))


@pytest.mark.parametrize("container", ["mp4", "mkv", "ogg"])
def test_a_cover_is_no_video_in_any_container(folder: Path, container: str) -> None:
    cover, path = folder / "cover.png", folder / f"covered.{container}"
    run_ffmpeg("-f", "lavfi", "-i", CORNERS, "-frames:v", 1, cover)
    audio = ("-f", "lavfi", "-i", "sine=d=1")
    if container == "mkv":
        attach = ("-attach", cover, "-metadata:s:t", "mimetype=image/png", "-map", 0)
        run_ffmpeg(*audio, *attach, path)
    elif container == "ogg":
        picture = cover.read_bytes()
        block = struct.pack(">II9sI", 3, 9, b"image/png", 0) + struct.pack(">5I", WIDTH, HEIGHT, 24, 0, len(picture))
        tag = base64.b64encode(block + picture).decode()
        run_ffmpeg(*audio, "-metadata", f"METADATA_BLOCK_PICTURE={tag}", "-c:a", "libvorbis", path)
    else:
        run_ffmpeg(*audio, "-i", cover, "-map", 0, "-map", 1, "-c:v", "copy", "-disposition:v", "attached_pic", path)
    assert read_clip(path).modalities == ("audio",)
