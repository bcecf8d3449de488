"""Builds `omniglot_alphabets_16x16.npz` from the drawings of Omniglot's evaluation set.

    python -m tasks.data.make_omniglot_alphabets_16x16 FOLDER_WITH_SOURCE [OUTPUT]

FOLDER_WITH_SOURCE holds `omniglot.npz`, directly or in `small/`, with x_test_bits uint8[13180, 1379] (105 x 105 bits
a row, 1 = ink, character by character and 20 drawers each) and alphabet_test uint8[13180]. Without it nothing is
written.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np

from tasks.datasets.data_folder import find_file
from tasks.datasets.image_size import shrink

NATIVE, SIZE = 105, 16


def drawings_to_grey(bits: np.ndarray) -> np.ndarray:
    """uint8[N, 1379] packed bits -> uint8[N, 16, 16], 255 where a pixel is all ink: 255 times the share of its area
    that is ink, to the nearest integer."""
    ink = np.unpackbits(bits, axis=1, count=NATIVE * NATIVE).reshape(-1, NATIVE, NATIVE, 1)
    return shrink(ink * np.uint8(255), SIZE)[..., 0]


def main() -> None:
    source = find_file(Path(sys.argv[1]), "omniglot.npz")
    if source is None:
        sys.exit(f"no omniglot.npz in {sys.argv[1]} or its small/: the embedded file stays as it is")
    with np.load(source, allow_pickle=False) as archive:
        bits, alphabets = archive["x_test_bits"], archive["alphabet_test"]
    default = Path(__file__).parent / "omniglot_alphabets_16x16.npz"
    output = Path(sys.argv[2]) if len(sys.argv) > 2 else default
    np.savez_compressed(output, x_test=drawings_to_grey(bits), y_test=alphabets.astype(np.uint8))
    print(f"{output}  {output.stat().st_size} bytes, sha256 {hashlib.sha256(output.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
