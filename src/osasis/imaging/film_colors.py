"""Colours of films: what their tags say, RGB for the network, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from osasis.errors import OsasisError

# numbers of ITU-T H.273
_UNKNOWN = 2
_PQ, _HLG = 16, 18
_MATRICES = {1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020nc"}
_WEIGHTS = {
    "bt709": (0.2126, 0.0722), "fcc": (0.30, 0.11), "bt470bg": (0.299, 0.114),
    "smpte170m": (0.299, 0.114), "smpte240m": (0.212, 0.087), "bt2020nc": (0.2627, 0.0593),
}  # fmt: skip
_FULL = 2  # AVColorRange
_HD_LINES = 720  # players take untagged films of so many lines for BT.709, others for BT.601
_FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
_BT2020_TO_709 = np.array(  # linear light; ITU-R BT.2087
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
    dtype=np.float32,
)
_KNEE = 0.75  # of the reference white: what is darker stays as it is
_WHITE = 203.0  # cd/m2 of HDR's reference white (ITU-R BT.2408)


@dataclass(frozen=True)
class Colors:
    """How a film's code values are colours; numbers are those of ITU-T H.273.

    Attributes:
        matrix, primaries, transfer: as tagged; 2 says that nothing is.
        full: whether code values use all of 0 to 255.
        lines: height of the film.
    """

    matrix: int
    primaries: int
    transfer: int
    full: bool
    lines: int

    @classmethod
    def of(cls, video: Any) -> Colors:
        """Those of a video stream."""
        context = video.codec_context
        full = int(context.color_range) == _FULL or str(context.pix_fmt).startswith("yuvj")
        return cls(
            int(context.colorspace),
            int(context.color_primaries),
            int(context.color_trc),
            full,
            int(context.height),
        )

    @property
    def is_hdr(self) -> bool:
        """Whether it is PQ or HLG."""
        return self.transfer in (_PQ, _HLG)

    @property
    def matrix_name(self) -> str:
        """FFmpeg's name of the matrix; players' guess where it is not tagged."""
        guess = "bt709" if self.lines >= _HD_LINES else "smpte170m"
        return _MATRICES.get(self.matrix, guess)

    @property
    def written(self) -> Colors:
        """Those of the result: the film's, and BT.709 where HDR was made SDR."""
        return Colors(1, 1, 1, False, self.lines) if self.is_hdr else self

    def tag(self, context: Any) -> None:
        """Write them on an encoder's context."""
        context.color_range = 2 if self.full else 1
        context.colorspace = self.matrix
        context.color_primaries = self.primaries
        context.color_trc = self.transfer


class FrameFilter:
    """A chain of FFmpeg's filters for frames of one kind; made anew where the kind changes.

    Args:
        chain: makes the filters, each a name and its arguments, for a frame.
    """

    def __init__(self, chain: Callable[[Any], list[tuple[str, str]]]) -> None:
        self._chain, self._graph = chain, None
        self._kind: tuple[Any, ...] = ()

    def __call__(self, frame: Any) -> list[Any]:
        """The frames that come out, one or none; None gives those that still wait."""
        import av

        if frame is None and self._graph is None:
            return []
        kind = self._kind if frame is None else (frame.width, frame.height, frame.format.name)
        if self._graph is None or kind != self._kind:
            self._graph, self._kind = self._make(frame), kind
        graph: Any = self._graph
        graph.push(frame)
        out = []
        while True:
            try:
                out.append(graph.pull())
            except (av.error.BlockingIOError, av.error.EOFError):
                return out

    def _make(self, frame: Any) -> Any:
        from av.filter import Graph

        graph = Graph()
        last = graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=frame.time_base,
        )
        for name, arguments in [*self._chain(frame), ("buffersink", "")]:
            following = graph.add(name, arguments or None)
            last.link_to(following)
            last = following
        graph.configure()
        return graph


def to_rgb(colors: Colors, *, interlaced: bool) -> FrameFilter:
    """RGB frames of a film's: 8 bits a channel, of HDR 16 bits of PQ's or HLG's code values."""
    kind = "rgb48le" if colors.is_hdr else "rgb24"
    given = f"in_color_matrix={colors.matrix_name}:in_range={'full' if colors.full else 'limited'}"
    fields = [("bwdif", "mode=send_frame:deint=all")] if interlaced else []

    def chain(frame: Any) -> list[tuple[str, str]]:
        source = "" if frame.format.is_rgb else f":{given}:out_range=full"
        return [*fields, ("scale", f"flags={_FLAGS}{source}"), ("format", kind)]

    return FrameFilter(chain)


def from_rgb(colors: Colors) -> Callable[[Any], list[Any]]:
    """Frames for the encoder of RGB ones; odd sides need colours for every pixel."""
    if colors.full:
        scale = f"flags={_FLAGS}:in_range=full:out_range=full"
    else:
        scale = f"flags={_FLAGS}:in_range=full:out_color_matrix={colors.matrix_name}"
        scale += ":out_range=limited"
    convert = FrameFilter(
        lambda frame: [
            ("scale", scale),
            ("format", pixel_format(frame.width, frame.height)),
        ]
    )
    if colors.full:
        return lambda frame: convert(_full_range(frame, _WEIGHTS[colors.matrix_name]))
    return convert


def _full_range(frame: Any, weights: tuple[float, float]) -> Any:
    """An RGB frame as YUV of the full range: FFmpeg's scaler rounds its colours down.

    Args:
        weights: of red and blue in luma (ITU-R BT.601, BT.709, BT.2020).
    """
    import av

    red, blue = weights
    r, g, b = frame.to_ndarray(format="rgb24").astype(np.float32).transpose(2, 0, 1)
    y = red * r + (1 - red - blue) * g + blue * b
    planes = np.stack([y, 128 + (b - y) / (2 - 2 * blue), 128 + (r - y) / (2 - 2 * red)])
    made = av.VideoFrame.from_ndarray(
        np.rint(planes).clip(0, 255).astype(np.uint8), format="yuv444p"
    )
    made.pts, made.time_base = frame.pts, frame.time_base
    return made


def pixel_format(width: int, height: int) -> str:
    """The encoder's: colours for every second pixel need even sides."""
    return "yuv444p" if width % 2 or height % 2 else "yuv420p"


def tone_mapped(pixels: np.ndarray, colors: Colors) -> np.ndarray:
    """HDR code values (H, W, 3) uint16 as BT.709 ones, (H, W, 3) uint8.

    Source: PQ and HLG as in ITU-R BT.2100, HLG at 1,000 cd/m2; light above the reference white of
    203 cd/m2 is rolled off by Reinhard's extended curve, and colours keep their ratios.

    Raises:
        OsasisError: not HDR.
    """
    if not colors.is_hdr:
        raise OsasisError("only films in PQ or HLG are tone-mapped")
    values = np.arange(65536, dtype=np.float64) / 65535
    table = _pq_light(values) if colors.transfer == _PQ else _hlg_light(values)
    light = table.astype(np.float32)[pixels] / _WHITE
    if colors.transfer == _HLG:  # the system's gamma acts on the luminance
        y = (light @ np.array([0.2627, 0.678, 0.0593], np.float32))[..., None]
        light = light * np.maximum(y * _WHITE / 1000, 1e-6) ** 0.2
    if colors.primaries in (9, _UNKNOWN):
        light = light @ _BT2020_TO_709.T
    peak = (1000 if colors.transfer == _HLG else 4000) / _WHITE
    brightest = np.maximum(light.max(axis=-1, keepdims=True), 1e-6)
    rest = 1 - _KNEE
    rolled = np.where(
        brightest <= _KNEE,
        brightest,
        _KNEE + rest * _reinhard((brightest - _KNEE) / rest, peak / rest),
    )
    light = (light * (rolled / brightest)).clip(0, 1)
    coded = np.where(light < 0.018, 4.5 * light, 1.099 * light**0.45 - 0.099)
    return np.rint(coded * 255).clip(0, 255).astype(np.uint8)


def _reinhard(x: np.ndarray, peak: float) -> np.ndarray:
    return np.maximum(x, 0) * (1 + x / peak**2) / (1 + np.maximum(x, 0))


def _pq_light(values: np.ndarray) -> np.ndarray:
    """cd/m2."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    p = values ** (1 / m2)
    return 10000 * (np.maximum(p - c1, 0) / (c2 - c3 * p)) ** (1 / m1)


def _hlg_light(values: np.ndarray) -> np.ndarray:
    """cd/m2 of a display of 1,000, before the system's gamma."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(values <= 0.5, values**2 / 3, (np.exp((values - c) / a) + b) / 12)
    return 1000 * scene
