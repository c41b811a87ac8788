"""The Python API: a photo to a result folder, and the face turned and lit anew.

python examples/three_lines.py [PHOTO] [FOLDER]
"""

import sys
from pathlib import Path

from g2s_cli import reconstruct, relight, rotate

photo = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("face.png")
result = reconstruct(photo, category="portrait")
result.save(sys.argv[2] if len(sys.argv) > 2 else "out-example", overwrite=True)

turned = rotate(result, [(0.3, 0.0), (-0.3, 0.0)])  # yaw and pitch in radians
lit = relight(result, [(-0.8, 0.0), (0.8, 0.3)])  # where the light stands: x to the right, y up
print(result.report["inversion_psnr_db"], "dB;", len(turned), "turned,", len(lit), "lit pictures of", turned[0].shape)
