"""Weights: list those that come with the package, show what a set says of itself, pack a run's for shipping."""

import argparse
import json
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", title="actions")
    actions.add_parser("list", help="the weights that come with the package", allow_abbrev=False)
    show = actions.add_parser("show", help="a set's card, as JSON", allow_abbrev=False)
    show.add_argument("model", help="a network's name, a weights file or a training workdir")
    pack = actions.add_parser("pack", help="merge, halve and describe a run's weights", allow_abbrev=False)
    pack.add_argument("model", help="a weights file or a training workdir")
    pack.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="a .safetensors file")
    pack.add_argument("--card", type=Path, metavar="FILE", help="JSON that is added to the card: data, scores, licence")
    pack.add_argument("--overwrite", action="store_true", help="replace the output if it exists")
    add = actions.add_parser("import", help="weights that others published, as one file", allow_abbrev=False)
    add.add_argument(
        "source", type=Path, metavar="FILE", help="a .safetensors or .npz file, or a TensorFlow.js package"
    )
    add.add_argument("--as", dest="name", metavar="NAME", help="what to call it (the network, and its training data)")
    add.add_argument("-o", "--output", type=Path, metavar="FILE", help="write this file (into your folder of weights)")
    add.add_argument("--half", action="store_true", help="in half precision: half as large, not quite the same")
    add.add_argument("--overwrite", action="store_true", help="replace what has that name")


def run(options: argparse.Namespace) -> int:
    return {"list": _list, "show": _show, "pack": _pack, "import": _import}[options.action](options)


def _list(_: argparse.Namespace) -> int:
    from deblur_jax.weights.store import BUNDLED, bundled, load

    for name in bundled():
        card, path = load(BUNDLED / f"{name}.safetensors").card, BUNDLED / f"{name}.safetensors"
        print(f"{name:10} {path.stat().st_size / 2**20:5.1f} MiB  {card.get('summary', '')}")
    return 0


def _show(options: argparse.Namespace) -> int:
    from deblur_jax import weights

    found = weights.resolve(options.model)
    about: dict[str, Any] = {"network": found.network, "variant": found.variant, "merged": found.merged}
    print(json.dumps({**about, **found.card}, indent=1, ensure_ascii=False))
    return 0


def _pack(options: argparse.Namespace) -> int:
    from deblur_jax.errors import UserError
    from deblur_jax.restore.images import check_output, read_bytes
    from deblur_jax.weights.store import pack

    path = check_output(options.output, overwrite=options.overwrite, suffixes=(".safetensors",))
    card = {}
    if options.card:
        try:
            card = json.loads(read_bytes(options.card))
        except ValueError as error:
            raise UserError(f"{options.card}: not JSON: {error}") from None
        if not isinstance(card, dict):
            raise UserError(f"{options.card}: must hold an object")
    pack(options.model, path, card=card)
    print(path)
    return 0


def _import(options: argparse.Namespace) -> int:
    import sys
    import tempfile

    from deblur_jax.errors import UserError
    from deblur_jax.restore.images import check_output
    from deblur_jax.weights import importing, store

    if options.output and options.name:
        raise UserError("--as NAME is for your folder of weights, -o FILE writes elsewhere: give one of them")
    if options.output:
        check_output(options.output, overwrite=options.overwrite, suffixes=(".safetensors",))
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
    from deblur_jax.weights import library

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{options.name or found.name}.safetensors"
        store.save(file, params=weights.params, half=options.half, **kept)
        print(library.add(file, name=options.name or found.name, overwrite=options.overwrite))
    return 0
