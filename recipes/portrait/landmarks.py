"""Face landmarks of images by MediaPipe's face mesh: python landmarks.py IMAGE… -o landmarks.npz

Runs by itself in an environment with mediapipe 0.10.14; g2s does not depend on it. The file has `files` (names) and
`points` (n 468 3): columns, rows and depths in pixels of the image, depth away from the camera; images without a face
are left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mediapipe
import numpy as np
from PIL import Image

POINTS = 468  # without those of the irises


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="+", type=Path, help="image files, or folders of them")
    parser.add_argument("-o", "--out", type=Path, required=True)
    arguments = parser.parse_args()
    paths = [path for given in arguments.images for path in (sorted(given.iterdir()) if given.is_dir() else [given])]
    mesh = mediapipe.solutions.face_mesh.FaceMesh(
        static_image_mode=True, max_num_faces=1, refine_landmarks=True, min_detection_confidence=0.3
    )
    files, points = [], []
    for path in paths:
        image = np.array(Image.open(path).convert("RGB"))
        height, width = image.shape[:2]
        faces = mesh.process(image).multi_face_landmarks
        if faces:
            shares = np.array([[point.x, point.y, point.z] for point in faces[0].landmark[:POINTS]])
            files.append(path.name)
            points.append(shares * (width, height, width) - (0.5, 0.5, 0))  # pixel centres at integers
    np.savez(arguments.out, files=np.array(files), points=np.array(points, np.float32))


if __name__ == "__main__":
    main()
