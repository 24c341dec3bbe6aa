"""The peer of `bench.pipeline`: what a PyTorch project usually writes. PyTorch is imported here alone."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from deblur_jax.pipeline.trees import Example


class _Pairs(torch.utils.data.Dataset):
    def __init__(self, examples: Sequence[Example], side: int):
        self._examples, self._side = examples, side

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        example = self._examples[index]
        generator = np.random.default_rng()
        blur, sharp = (_read(str(path)) for path in (example.blur, example.sharp))
        top, left = (generator.integers(0, size - self._side + 1) for size in sharp.shape[:2])
        turns, flipped = int(generator.integers(4)), generator.integers(2)
        crops = []
        for picture in (blur, sharp):
            piece = np.rot90(picture[top : top + self._side, left : left + self._side], turns)
            crops.append(torch.from_numpy(np.ascontiguousarray(piece[:, ::-1] if flipped else piece)))
        return crops[0], crops[1]


def _read(path: str) -> np.ndarray:
    if path.endswith(".npy"):
        return np.load(path, mmap_mode="r")
    picture = cv2.imread(path)
    assert picture is not None
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def torch_batches(examples: Sequence[Example], *, batch: int, side: int, workers: int) -> Iterator:
    cv2.setNumThreads(1)
    loader = torch.utils.data.DataLoader(
        _Pairs(examples, side), batch, shuffle=True, num_workers=workers, drop_last=True, prefetch_factor=1
    )
    while True:
        yield from loader
