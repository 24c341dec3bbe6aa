"""Builds the wheel, installs it in a clean environment elsewhere, and uses it there. Run by `make wheel`."""

import os
import re
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run(*command, cwd) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="deblur wheel ") as folder:
        elsewhere = Path(folder)
        # From a copy of what is tracked, so that nothing lying about gets in.
        (elsewhere / "source").mkdir()
        tracked = run("git", "ls-files", "-z", cwd=ROOT).split("\0")[:-1]
        for name in tracked:
            target = elsewhere / "source" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
        options = ("--quiet", "--no-deps", "--no-build-isolation", "-w", elsewhere)
        run(*pip, "wheel", *options, elsewhere / "source", cwd=elsewhere)
        (wheel,) = elsewhere.glob("*.whl")

        names = zipfile.ZipFile(wheel).namelist()
        tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
        assert tops == {"deblur_jax"}, tops
        shipped = {name for name in names if name.startswith("deblur_jax/")}
        expected = {name for name in tracked if name.startswith("deblur_jax/")}
        assert shipped == expected, shipped ^ expected

        # The base dependencies alone, in the versions of the lock file.
        lock = (ROOT / "requirements.lock").read_text()
        pins = re.findall(r"^[a-z0-9].*==.*?(?= \\$)", lock, re.MULTILINE)
        (elsewhere / "constraints.txt").write_text("\n".join(pins))
        venv.create(elsewhere / "clean", with_pip=True)
        python = elsewhere / "clean" / "bin" / "python"
        install = ("-m", "pip", "--disable-pip-version-check", "install", "--quiet", "-c", "constraints.txt")
        run(python, *install, wheel, cwd=elsewhere)

        deblur = elsewhere / "clean" / "bin" / "deblur"
        assert "models" in run(deblur, "--help", cwd=elsewhere)
        assert "small" in run(deblur, "models", cwd=elsewhere)
        photo = run(python, "-c", "from deblur_jax import samples; print(samples.PICTURES[0])", cwd=elsewhere).strip()
        assert Path(photo).is_relative_to(elsewhere)
        run(deblur, "edges", photo, "-o", "edges.png", cwd=elsewhere)
        assert (elsewhere / "edges.png").stat().st_size > 1000
        print(f"{wheel.name}: {wheel.stat().st_size / 2**20:.1f} MiB, holds deblur_jax alone, works elsewhere")


if __name__ == "__main__":
    main()
