"""Datasets: prepare one for training, make one from sharp photographs, check any folder, show what is in it.

Plain folders need no preparation: blur/ and sharp/ beside each other, sharp photographs, or clips.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deblur_jax.cli import signals
from deblur_jax.cli.progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", title="actions")

    prepare = actions.add_parser("prepare", help="write a dataset as sharded ArrayRecord", allow_abbrev=False)
    prepare.add_argument("dataset", type=Path, help="the dataset's folder, such as data/reds (its README says more)")
    prepare.add_argument("--manual-dir", type=Path, required=True, metavar="DIR", help="where you unpacked it")
    prepare.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write; again to resume")
    prepare.add_argument("--config", metavar="NAME", help="a flavour of the dataset (default: its first)")
    prepare.add_argument("--shards", type=int, metavar="N", help="files of each split (default: of about 256 MiB)")
    prepare.add_argument(
        "--raw", action="store_true", help="store decoded pixels, 3 bytes each: read four times as fast as PNG"
    )
    prepare.add_argument("--allow-partial", action="store_true", help="go on without what is missing")
    prepare.add_argument("--overwrite", action="store_true", help="start anew where something else was prepared")

    blur = actions.add_parser("blur", help="write pairs made from sharp photographs by a config", allow_abbrev=False)
    blur.add_argument("--config", type=Path, required=True, metavar="FILE", help="such as configs/photos_nano.py")
    blur.add_argument("--data", action="append", default=[], metavar="DIR", help="short for --config.data.train=DIR")
    blur.add_argument("--out", type=Path, required=True, metavar="DIR", help="for train/ and val/; again to go on")
    blur.add_argument("--train", type=int, default=0, metavar="N", help="pairs from the photographs trained on (0)")
    blur.add_argument("--val", type=int, default=0, metavar="N", help="pairs from those kept aside (0)")

    grid = actions.add_parser("grid", help="write a fixed set to judge by, from kept photographs", allow_abbrev=False)
    grid.add_argument("--data", action="append", required=True, metavar="DIR", help="sharp photographs; several times")
    grid.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="for blur/, sharp/, grid.json, kernels.npz"
    )
    grid.add_argument("--list", type=Path, metavar="FILE", help="exactly these, such as data/photos/validation.tsv")
    grid.add_argument("--aside", type=float, default=0.2, metavar="SHARE", help="that training keeps aside (0.2)")
    grid.add_argument("--kinds", metavar="A,B", help="of blur, only these (default: all)")
    grid.add_argument("--side", type=int, default=256, metavar="N", help="of the square pieces, in pixels (256)")
    grid.add_argument("--seed", type=int, default=0, help="of the pieces and their blur (0)")

    check = actions.add_parser("check", help="decode and measure a prepared or plain folder", allow_abbrev=False)
    check.add_argument("folder", type=Path)
    check.add_argument("--sample", type=int, metavar="N", help="only N examples of each split")
    check.add_argument("--seed", type=int, default=0, help="of the sample (0)")
    check.add_argument("--json", action="store_true", help="print the report as JSON")

    show = actions.add_parser("show", help="write a contact sheet, blur above sharp", allow_abbrev=False)
    show.add_argument("folder", type=Path)
    show.add_argument("-o", "--output", type=Path, required=True, help="a .png, .jpg or .webp file")
    show.add_argument("--count", type=int, default=8, metavar="N", help="how many examples (8)")
    show.add_argument("--split", metavar="NAME", help="of this split (default: of all)")
    show.add_argument("--seed", type=int, default=0, help="of the choice (0)")
    show.add_argument("--overwrite", action="store_true", help="replace the output if it exists")


def run(options: argparse.Namespace) -> int:
    from deblur_jax.errors import UserError

    for name in ("shards", "sample", "count", "side", "seed"):
        value = getattr(options, name, None)
        if value is not None and value < (0 if name == "seed" else 1):
            raise UserError(f"--{name} must be at least {0 if name == 'seed' else 1}, not {value}")
        if value is not None and value >= 2**63:
            raise UserError(f"--{name} must be below 2^63, not {value}")
    if options.action in ("check", "show"):
        return {"check": _check, "show": _show}[options.action](options)
    with signals.heeded():
        return {"prepare": _prepare, "blur": _blur, "grid": _grid}[options.action](options)


def _prepare(options: argparse.Namespace) -> int:
    import dataclasses

    from deblur_jax.pipeline.builders import load_source
    from deblur_jax.pipeline.prepare import prepare, shards_of

    with Progress("checking the files") as progress:
        source, found = load_source(
            options.dataset,
            options.manual_dir,
            config=options.config,
            allow_partial=options.allow_partial,
            tick=progress,
        )
    source = dataclasses.replace(source, raw=options.raw)
    for note in found.notes:
        print(f"deblur data: note: {note}", file=sys.stderr)
    if found.missing:
        from deblur_jax.pipeline.checks import first_ten

        summary = f"deblur data: PARTIAL: {len(found.missing)} missing, and left out of what is written"
        print(first_ten(summary, found.missing), file=sys.stderr)
    try:
        with Progress("writing", scale=1e9, unit=" GB") as progress:
            prepare(source, options.out, shards=options.shards, overwrite=options.overwrite, tick=progress)
    except KeyboardInterrupt:
        print("deblur data: the finished shards stay; run the same command again to go on", file=sys.stderr)
        raise
    cut = shards_of(source, options.shards)
    for split, examples in source.splits.items():
        sequences = len({example.sequence for example in examples})
        print(f"{split}: {len(examples)} examples of {sequences} sequences in {len(cut[split])} shards")
    print(options.out)
    return 0


def _blur(options: argparse.Namespace) -> int:
    """Making blur once and learning from it several times is what a CPU can afford."""
    from deblur_jax.errors import UserError
    from deblur_jax.train import config, data

    if options.train < 0 or options.val < 0 or options.train + options.val == 0:
        raise UserError("nothing to write: --train and --val are how many pairs, at least 1 together")
    made = config.load(options.config, options.overrides)
    if options.data:
        made.data.train = tuple(options.data)
    _check_apart(options.out, (*made.data.train, *made.data.val))
    train, val = data.sources(made)
    if any(source.paired for source in (*train, *val)):
        raise UserError("these are pairs already; blur is made from sharp photographs")
    for split, sources, count, offset in (("train", train, options.train, 0), ("val", val, options.val, 20_000)):
        if count:
            with Progress(f"{split}: pairs") as progress:
                data.write_pairs(made, sources, options.out / split, count, offset=offset, tick=progress)
            print(f"{options.out / split}: {count} pairs")
    return 0


def _check_apart(out: Path, folders: Sequence[str | Path]) -> None:
    from deblur_jax.errors import UserError

    for folder in folders:
        if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(folder)):
            raise UserError(f"{out}: lies in {folder}, where it would count as data; name a folder elsewhere")


def _grid(options: argparse.Namespace) -> int:
    from deblur_jax.errors import UserError
    from deblur_jax.evaluate import grid

    if not 0 < options.aside < 1:
        raise UserError(f"--aside must be above 0 and below 1, not {options.aside}")
    kinds = options.kinds.split(",") if options.kinds else list(grid.STRENGTHS)
    if unknown := [kind for kind in kinds if kind not in grid.STRENGTHS]:
        raise UserError(f"--kinds: no kind of blur is called {unknown[0]!r}; there are {', '.join(grid.STRENGTHS)}")
    _check_apart(options.out, options.data)
    photographs = grid.kept_photographs([Path(d) for d in options.data], aside=options.aside, listed=options.list)
    with Progress("blurring") as progress:
        many = grid.write(photographs, options.out, seed=options.seed, side=options.side, kinds=kinds, tick=progress)
    print(f"{options.out}: {many} pairs from {len(photographs)} photographs")
    return 0


def _check(options: argparse.Namespace) -> int:
    import dataclasses
    import json

    from deblur_jax.pipeline.checks import examine, first_ten

    with Progress("decoding") as progress:
        report = examine(options.folder, sample=options.sample, seed=options.seed, tick=progress)
    if options.json:
        print(json.dumps({"folder": str(options.folder), **dataclasses.asdict(report)}, indent=2))
        return 1 if report.problems else 0
    print(f"{options.folder}: {report.kind}")
    for split, figures in report.splits.items():
        print(f"{split}: {_sentence(figures)}")
    for note in report.notes:
        print(f"note: {note}")
    if report.problems:
        many = len(report.problems)
        print(first_ten(f"{many} problem{'s' * (many > 1)}:", report.problems))
        return 1
    print("no problems")
    return 0


def _sentence(figures: dict[str, Any]) -> str:
    parts = [f"{figures['examples']} examples of {figures['sequences']} sequences, {figures['decoded']} decoded"]
    parts += [f"{many} of {size}" for size, many in list(figures["sizes"].items())[:3]]
    if "sharpness_sharp" in figures:
        blur = f"{figures['sharpness_blur']:.0f} blurred, " if "sharpness_blur" in figures else ""
        parts.append(f"Laplacian variance {blur}{figures['sharpness_sharp']:.0f} sharp")
    if figures.get("psnr") is not None:
        parts.append(f"PSNR {figures['psnr']:.2f} dB")
    if figures.get("unblurred"):
        parts.append(f"{figures['unblurred']} pairs without any blur")
    return "; ".join(parts)


def _show(options: argparse.Namespace) -> int:
    from deblur_jax.errors import UserError
    from deblur_jax.pipeline.checks import open_folder
    from deblur_jax.restore.images import check_output, write_image

    check_output(options.output, overwrite=options.overwrite)
    _, splits = open_folder(options.folder)
    if options.split is not None and options.split not in splits:
        raise UserError(f"{options.folder}: no split {options.split}; {' '.join(splits)}")

    import numpy as np

    wanted = [options.split] if options.split else list(splits)
    entries = [(split, entry) for split in wanted for entry in splits[split]]
    if not entries:
        there = " ".join(split for split in splits if splits[split]) or "no examples at all"
        raise UserError(f"{options.folder}: {options.split or 'the dataset'} is empty; there are {there}")
    chosen = np.random.default_rng(options.seed).permutation(len(entries))[: options.count]
    cells = [_cell(*entries[i]) for i in sorted(chosen)]
    across = min(4, len(cells))
    blank = np.full_like(cells[0], 255)
    cells += [blank] * (-len(cells) % across)
    # Cells of pairs are twice as high as those of photographs, and a folder has the one or the other.
    rows = [np.hstack(cells[i : i + across]) for i in range(0, len(cells), across)]
    write_image(options.output, np.vstack(rows), overwrite=options.overwrite)
    print(options.output)
    return 0


def _cell(split: str, entry: Any) -> Any:
    """Blur above sharp, each fitted into 320x214 pixels, and the name below."""
    import cv2
    import numpy as np

    from deblur_jax.pipeline.pictures import decode

    width, height = 320, 214
    strips = []
    for data in entry.read():
        if data is None:
            continue
        pixels = decode(data, entry.name)
        if pixels.dtype == np.uint16:
            pixels = np.rint(pixels / 257).astype(np.uint8)
        scale = min(width / pixels.shape[1], height / pixels.shape[0])
        size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
        # Few pixels are shown as squares, many as their means.
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
        frame = np.full((height, width, 3), 255, np.uint8)
        top, left = (height - size[1]) // 2, (width - size[0]) // 2
        frame[top : top + size[1], left : left + size[0]] = small
        strips.append(frame)
    caption = np.full((24, width, 3), 255, np.uint8)
    # OpenCV writes ASCII alone; of a long name the end tells more.
    text = f"{split} {entry.name}".encode("ascii", "replace").decode()
    text = text if len(text) <= 40 else f"...{text[-37:]}"
    cv2.putText(caption, text, (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return cv2.copyMakeBorder(np.vstack([*strips, caption]), 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=[255] * 3)
