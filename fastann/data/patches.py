"""Real data that ships with a dependency: patches of scikit-learn's two sample photographs."""

import numpy as np


def patches(size: int = 8, stride: int = 1) -> np.ndarray:
    """All `size` x `size` patches of both photographs, one per row: float32 in [0, 1].

    With the defaults, 531,720 rows of 192 columns (8 x 8 pixels of 3 colours).

    Raises
    ------
    ImportError
        If Pillow, which decodes the photographs, is missing.
    """
    try:
        from sklearn.datasets import load_sample_images

        images = load_sample_images().images
    except ImportError as error:
        raise ImportError(f"the photographs need Pillow ({error}); pip install 'fastann[demo]'") from error
    rows = []
    for image in images:
        windows = np.lib.stride_tricks.sliding_window_view(image, (size, size), axis=(0, 1))[::stride, ::stride]
        rows.append(windows.transpose(0, 1, 3, 4, 2).reshape(-1, size * size * image.shape[2]))
    return np.concatenate(rows).astype(np.float32) / np.float32(255)
