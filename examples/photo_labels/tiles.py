"""Tiles: what the model names, and how a photograph of any size is named piece by piece."""

import numpy as np
import torch

TILE = 24  # pixels on a side
STRIDE = 8  # pixels from one tile of a photograph to the next; 24 is nine times faster, and coarse
BATCH_SIZE = 512


@torch.no_grad()
def predict(model, processor, tiles: np.ndarray) -> np.ndarray:
    """Give logits, `(tiles, labels)`, for tiles `(tiles, TILE, TILE, 3)`."""
    batches = (tiles[start : start + BATCH_SIZE] for start in range(0, len(tiles), BATCH_SIZE))
    return np.concatenate([model.eval()(**processor(batch, return_tensors="pt")).logits for batch in batches])


def survey(model, processor, photo: np.ndarray, *, stride: int = STRIDE) -> np.ndarray:
    """Give every pixel's probabilities, `(height, width, labels)`.

    They are those of the tiles over it, of which the nearer ones count for more.
    """
    height, width = photo.shape[:2]
    corners = [(top, left) for top in positions(height, stride) for left in positions(width, stride)]
    tiles = np.stack([photo[top : top + TILE, left : left + TILE] for top, left in corners])
    probabilities = torch.from_numpy(predict(model, processor, tiles)).softmax(1).numpy()
    nearness = np.outer(*2 * [np.bartlett(TILE + 2)[1:-1]])[..., None]  # a pyramid
    sums, weights = np.zeros((height, width, probabilities.shape[1])), np.zeros((height, width, 1))
    for (top, left), row in zip(corners, probabilities, strict=True):
        sums[top : top + TILE, left : left + TILE] += nearness * row
        weights[top : top + TILE, left : left + TILE] += nearness
    return sums / weights


def positions(length: int, stride: int) -> list[int]:
    """Give where tiles start along a side of this length: every so many pixels, and flush with the end."""
    return [*range(0, length - TILE, stride), length - TILE]


def name_whole(model, processor, probabilities: np.ndarray, count: int = 3) -> list[dict]:
    """Give a photograph's likeliest labels: a pixel's probabilities, in the mean."""
    logits = np.log(probabilities.mean((0, 1)))  # softmax turns them back into what they were
    return processor.post_process_image_classification(logits, count, id2label=model.config)[0]
