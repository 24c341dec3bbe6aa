"""Where a run keeps what it makes: a folder, or an object store with a folder in front of it."""

import sys
import tempfile
from pathlib import Path

from deblur_jax.errors import UserError
from deblur_jax.files import is_address, store


class Workdir:
    """`folder` holds all but the checkpoints, which Orbax writes to their place by itself.

    Nothing can be appended to in a store: so what is in the folder is sent there, whole files, by `send`.
    """

    def __init__(self, address: str | Path):
        self._address = str(address).rstrip("/") if is_address(address) else None
        if self._address is None:
            self.folder = Path(address)
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(f"{self.folder}: cannot be a workdir: {error.strerror}") from None
            self.checkpoints = str(self.folder.resolve() / "checkpoints")
            return
        if not self._address.startswith("gs://"):  # else every checkpoint would fail, and training go on
            raise UserError(f"{address}: Orbax writes checkpoints to folders and gs:// only: mount the store")
        self._temporary = tempfile.TemporaryDirectory(prefix="deblur-")
        self.folder, self._sent = Path(self._temporary.name), {}
        self.checkpoints = f"{self._address}/checkpoints"
        with store(self._address) as there:
            # What a run that is taken up again goes on with; TensorBoard reads any number of files.
            for name in ("log.jsonl", "best.safetensors"):
                if (there / name).exists():
                    (self.folder / name).write_bytes((there / name).read_bytes())
        self._sent = self._seen()

    def has(self, name: str) -> bool:
        if self._address is None:
            return (self.folder / name).exists()
        with store(f"{self._address}/{name}") as there:
            return there.exists()

    def _seen(self) -> dict[Path, tuple[int, int]]:
        files = [path for path in self.folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in files}

    def send(self) -> None:
        """What has changed. Where it cannot be sent that is said, and training goes on."""
        if self._address is None:
            return
        for path, state in self._seen().items():
            if self._sent.get(path) == state:
                continue
            try:
                with store(f"{self._address}/{path.relative_to(self.folder).as_posix()}") as there:
                    there.write_bytes(path.read_bytes())
            except UserError as error:
                print(f"deblur train: NOT saved: {error}", file=sys.stderr, flush=True)
            else:
                self._sent[path] = state

    def close(self) -> None:
        self.send()
        if self._address is not None:
            self._temporary.cleanup()

    def __str__(self) -> str:
        return self._address or str(self.folder)
