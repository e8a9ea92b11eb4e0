"""Identity similarity: do two pictures show the same person?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image

from osasis.errors import UserError
from osasis.imaging.faces import Face, FaceDetector

FindFaces = Callable[[Image.Image], list[Face]]
Recogniser = Literal["sface", "arcface"]
SIDE = 112
# Where ArcFace and SFace want eyes, nose and mouth corners (insightface's template), pixels
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655],
     [70.7299, 92.2041]]
)  # fmt: skip
# Where they are in photos framed like FFHQ, as shares of the side: means over 264 aligned faces
FRAMED_LIKE_FFHQ = np.array(
    [[0.3752, 0.4518], [0.6170, 0.4530], [0.4940, 0.5977], [0.3902, 0.7047], [0.5986, 0.7064]]
)


def similarity_transform(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Rotation, scale and shift (2, 3) that bring (n, 2) points nearest to others (least squares).

    Source: Umeyama 1991, Eqs. 40 to 42, in the plane: one complex factor and a shift.
    """
    z = source[:, 0] + 1j * source[:, 1]
    w = target[:, 0] + 1j * target[:, 1]
    z_mean, w_mean = z.mean(), w.mean()
    factor = np.vdot(z - z_mean, w - w_mean) / np.vdot(z - z_mean, z - z_mean)
    shift = w_mean - factor * z_mean
    return np.array(
        [[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]]
    )


def align_face(picture: Image.Image, landmarks: np.ndarray) -> np.ndarray:
    """The face, (112, 112, 3) uint8 RGB, its (5, 2) landmarks in pixels on the template."""
    matrix = similarity_transform(landmarks, TEMPLATE)
    return cv2.warpAffine(np.asarray(picture.convert("RGB")), matrix, (SIDE, SIDE))


@dataclass(frozen=True)
class Landmarks:
    """Five landmarks in pixels, and whether a face was really found there."""

    points: np.ndarray
    found: bool


def find_landmarks(
    find_faces: FindFaces, picture: Image.Image, otherwise: Landmarks | None = None
) -> Landmarks:
    """Landmarks of the largest face; where there is none `otherwise`, or FFHQ's mean places."""
    faces = find_faces(picture)
    if faces:
        return Landmarks(np.array(faces[0].landmarks), True)
    if otherwise is not None:
        return Landmarks(otherwise.points, False)
    return Landmarks(FRAMED_LIKE_FFHQ * [picture.width, picture.height], False)


class FaceEmbedder:
    """SFace or ArcFace, by OpenCV.

    Args:
        kind: "sface" (Zhong et al. 2021, 2205.12010; 128 numbers; BGR, 0 to 255) or "arcface"
            (Deng et al. 2019, 1801.07698; 512 numbers; RGB, (x - 127.5) / 127.5).
        path: its ONNX file.

    Raises:
        UserError: the file is not there or is no such network.
    """

    def __init__(self, kind: Recogniser, path: Path) -> None:
        if not path.is_file():
            raise UserError(f"the face network {path} does not exist")
        self.kind = kind
        # OpenCV 5 warns of its own engine each time a network is loaded
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        model = np.frombuffer(path.read_bytes(), np.uint8)  # OpenCV reads few paths on Windows
        try:
            if kind == "sface":
                recogniser = cv2.FaceRecognizerSF.create("onnx", model, np.empty(0, np.uint8))
                self._run = lambda face: recogniser.feature(face[:, :, ::-1].copy())
            else:
                net = cv2.dnn.readNetFromONNX(model)
                self._run = lambda face: _forward(net, face)
            self._run(np.zeros((SIDE, SIDE, 3), np.uint8))
        except cv2.error as error:
            raise UserError(f"{path} is no {kind} network: {error.err}") from error

    def __call__(self, face: np.ndarray) -> np.ndarray:
        """Embed an aligned face, (112, 112, 3) uint8 RGB, as a float64 vector of length 1."""
        vector = np.asarray(self._run(face), dtype=np.float64).ravel()
        return vector / max(float(np.linalg.norm(vector)), 1e-12)


def _forward(net: cv2.dnn.Net, face: np.ndarray) -> np.ndarray:
    net.setInput(cv2.dnn.blobFromImage(face, 1 / 127.5, (SIDE, SIDE), (127.5, 127.5, 127.5)))
    return np.asarray(net.forward())


class IdentitySimilarity:
    """Cosine of the embeddings of two faces, 1 for the same picture.

    Faces are aligned by their own five landmarks (YuNet). A picture in which no face is found is
    taken to lie as the photo does, and a photo to be framed like FFHQ.

    Attributes:
        found: whether a face was found in the last output.
    """

    def __init__(self, embedder: FaceEmbedder, faces: FindFaces | None = None) -> None:
        self.embedder = embedder
        self._faces = faces or FaceDetector(any_turn=False)
        self.found = True

    def __call__(self, output: Image.Image, photo: Image.Image) -> float:
        """Compare two pictures of the same size and framing."""
        before = find_landmarks(self._faces, photo)
        after = find_landmarks(self._faces, output, before)
        self.found = after.found
        faces = align_face(output, after.points), align_face(photo, before.points)
        return float(self.embedder(faces[0]) @ self.embedder(faces[1]))
