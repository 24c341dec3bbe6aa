"""The memory that one engine takes for one network, in a process of its own: `python -m deblur_jax.bench.alone`."""

import importlib
import json
import pickle
import subprocess
import sys
from pathlib import Path

from deblur_jax.bench.runners import Given

# A process counts as its own what its parent had when it was started: so a small one starts it, not the benchmark.
_BETWEEN = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"


def most_memory(engine: str, given: Given, folder: Path, *, table: str = "deblur_jax.bench.runners") -> int | None:
    """Bytes that loading, compiling and running twice take at most, beyond what importing the engine took.

    On a GPU those of the device, where the engine counts them. `table` is the module whose ENGINES has the engine.
    """
    file = folder / "given.pickle"
    file.write_bytes(pickle.dumps(given))
    command = [sys.executable, "-m", "deblur_jax.bench.alone", table, engine, str(file)]
    done = subprocess.run([sys.executable, "-c", _BETWEEN, *command], capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def _measure(table: str, engine: str, given: Given) -> int | None:
    found = importlib.import_module(table).ENGINES[engine]
    for module in (found.package, *found.imports):
        importlib.import_module(module)
    before = _highest()
    ready = found.make(given)
    for _ in range(2):
        ready.resident()
    if given.device == "cpu":
        return _highest() - before
    if engine == "jax":
        import jax

        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    if engine.startswith("torch"):
        import torch  # pyright: ignore[reportMissingImports]

        return torch.cuda.max_memory_allocated()
    return None


def _highest() -> int:
    import resource  # Windows has none; there a process of its own fails, and its memory is not known

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], sys.argv[2], pickle.loads(Path(sys.argv[3]).read_bytes()))))
