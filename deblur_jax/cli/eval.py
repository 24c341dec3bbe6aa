"""Score models side by side on pairs of blurred and sharp pictures, and write a report.

DIR holds a prepared dataset, or blur/ and sharp/ with pictures or with clips, whose frames are scored then; or what
`deblur data grid` wrote, which is also scored by kind of blur, noise and encoding. The report
is index.html (one file, no network needed), report.json, pictures.csv and videos.csv (the means of each clip or
sequence).
"""

import argparse
import json
import os
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

_FILES = ("index.html", "report.json", "pictures.csv", "videos.csv")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help="a name of deblur weights list, a weights file or a workdir"
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="prepared, or with blur/ and sharp/")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="REPORT", help="folder for the report")
    parser.add_argument("--split", metavar="NAME", help="default: val, else test, else the only one")
    parser.add_argument("--limit", type=int, metavar="N", help="only N pairs, or about N frames, evenly spaced")
    parser.add_argument(
        "--baselines",
        action="store_true",
        help="also unsharp masking and, on a grid, deconvolution with the true kernel",
    )
    parser.add_argument("--fps-size", default="1280x720", metavar="WxH", help="of the timed picture (1280x720)")
    parser.add_argument("--no-fps", action="store_true", help="take no times")
    parser.add_argument(
        "--max-pixels", type=int, metavar="N", help="a device takes so many at once (default: what its memory holds)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the report if it exists")
    parser.add_argument("--json", action="store_true", help="print report.json instead of the table")


def run(options: argparse.Namespace) -> int:
    from deblur_jax.errors import UserError
    from deblur_jax.files import make_folder, write_whole

    for name in ("limit", "max_pixels"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, not {value}")
    width, height = _size(options.fps_size)
    _check_folder(options.out, overwrite=options.overwrite)

    from deblur_jax import weights
    from deblur_jax.evaluate import clips, grid
    from deblur_jax.evaluate.baselines import baselines
    from deblur_jax.evaluate.run import choose, decoded, evaluate, open_pairs

    entries: list[Any] = []
    if found_clips := clips.pairs(options.data):
        _check_clips(options.data, found_clips[0].blurred, options.split)
        split, there, what = "clips", clips.frames_in(found_clips), "frames"
        every = max(1, there // options.limit) if options.limit else 1
        chosen, pairs = max(1, there // every), clips.decoded(found_clips, every)
    else:
        split, entries = open_pairs(options.data, options.split)
        some = choose(entries, options.limit)
        there, what, chosen, pairs = len(entries), "pairs", len(some), decoded(some)
    several = grid.read(options.data)
    if several and entries:
        _check_grid(options.data, [entry.name for entry in entries], several.pairs)
    besides = baselines(several) if options.baselines else {}
    labels = labels_of(options.models, taken=besides)
    loaded = {label: weights.resolve(model) for label, model in zip(labels, options.models, strict=True)}

    import jax

    from deblur_jax.cli.progress import Progress
    from deblur_jax.evaluate import figures, report, summary
    from deblur_jax.restore.restorer import Restorer

    devices = jax.devices()[:chosen]
    restorers = {label: Restorer(w, devices=devices, max_pixels=options.max_pixels) for label, w in loaded.items()}
    methods = {label: _by_network(restorer) for label, restorer in restorers.items()}
    methods |= {label: method for label, (_, method) in besides.items()}
    with Progress("scoring") as progress:
        found = evaluate(
            methods,
            pairs,
            clips=bool(found_clips),
            devices=devices,
            tick=lambda done: progress(min(done, chosen), chosen),
        )
    for reason in found.failed.values():
        print(f"deblur eval: {reason}", file=sys.stderr)
    if not found.pictures:
        raise UserError(f"{options.data}: none of the {chosen} {what} could be scored, so there is no report")
    speeds = None if options.no_fps else _speeds(loaded, width, height)
    models = {
        label: {
            "network": w.network,
            "weights": model,
            "parameters": restorers[label].facts.parameters,
            "gmac": restorers[label].facts.gmac(width, height),
            "card": w.card,
        }
        for (label, w), model in zip(loaded.items(), options.models, strict=True)
    }
    models |= {label: {"baseline": what_it_is} for label, (what_it_is, _) in besides.items()}
    about = {
        "data": str(options.data),
        "split": split,
        "pictures_there": there,
        "cost_size": f"{width}x{height}",
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "command": shlex.join(["deblur", *sys.argv[1:]]),
    }
    said = summary.summarise(found, about=about, models=models, speeds=speeds, groups=several and several.groups)
    lead = figures.lead(found, restorers)
    cases = {
        section: [figures.show(title, index, found, restorers) for title, index in several.items()]
        for section, several in figures.cases(found, lead=lead).items()
    }
    text = json.dumps(said, indent=1, ensure_ascii=False, allow_nan=False)
    make_folder(options.out)
    page = report.page(said, cases, lead=lead)
    contents = (page, text + "\n", summary.pictures_csv(said), summary.videos_csv(said))
    for name, content in zip(_FILES, contents, strict=True):
        write_whole(options.out / name, content.encode(errors="backslashreplace"))  # files' names may be no text
    print(text if options.json else summary.table(said))
    if several and not options.json:
        print(f"\n{summary.groups_table(said)}")
    print(options.out / _FILES[0], file=sys.stderr if options.json else sys.stdout)
    return 1 if found.failed else 0


def _by_network(restorer: Any) -> Any:
    return lambda pictures, _: restorer.restore_batch(pictures)


def _speeds(loaded: dict[str, Any], width: int, height: int) -> dict[str, Any]:
    """On one device, one picture at a time, the models in turns."""
    import jax

    from deblur_jax.bench.measure import interleaved
    from deblur_jax.evaluate.summary import Speed
    from deblur_jax.restore.engines import JaxEngine

    print("deblur eval: taking times", file=sys.stderr)
    device = jax.devices()[0]
    works = {label: JaxEngine(w, devices=[device]).work(height, width) for label, w in loaded.items()}
    timings = interleaved(works)
    return {label: Speed(t.median, t.low, t.high, width, height, device.device_kind) for label, t in timings.items()}


def labels_of(models: Sequence[str], taken: Iterable[str] = ()) -> list[str]:
    """A name for each model: its file's, or its folder's for `best` and `final`; numbered where they are equal or
    taken by something else."""
    labels: list[str] = []
    for model in models:
        label = label_of(model)
        others, number = {*labels, *taken, "blurry", "sharp"}, 2
        unique = label
        while unique in others:
            unique, number = f"{label}-{number}", number + 1
        labels.append(unique)
    return labels


def label_of(model: str) -> str:
    """What a report, a card or a server calls it, in text that can be written."""
    path = Path(model)
    if "+" in model and not path.exists():  # a mean of several
        return "+".join(map(label_of, model.split("+")))
    if path.suffix == ".safetensors":
        path = path.resolve().parent if path.stem in ("best", "final") else path.with_suffix("")
    return ((path if path.name else path.resolve()).name or model).encode(errors="backslashreplace").decode()


def _size(text: str) -> tuple[int, int]:
    from deblur_jax.errors import UserError

    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if not match:
        raise UserError(f"--fps-size must be a width and a height such as 1280x720, not {text}")
    return int(match[1]), int(match[2])


def _check_clips(folder: Path, clip: Path, split: str | None) -> None:
    from deblur_jax.errors import UserError
    from deblur_jax.pipeline import trees

    if split:
        raise UserError(f"{folder}: holds clips, which have no splits: leave out --split {split}")
    if pictures := [path for side in ("blur", "sharp") for path in trees.pictures(folder / side)]:
        both = f"pictures ({pictures[0].relative_to(folder)}) and clips ({clip.relative_to(folder)})"
        raise UserError(f"{folder}: holds {both}; give each kind a folder of its own")


def _check_grid(folder: Path, names: Iterable[str], noted: Mapping[str, Any]) -> None:
    from deblur_jax.errors import UserError
    from deblur_jax.evaluate.grid import INDEX

    if others := sorted(set(names) - set(noted)):
        raise UserError(f"{folder}: {len(others)} pairs are not in its {INDEX}, such as {others[0]}; remove them")


def _check_folder(folder: Path, *, overwrite: bool) -> None:
    """Before any work: the report can be written, and replaces none unasked."""
    from deblur_jax.errors import UserError

    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise UserError(f"{there}: is a file, name a folder for the report")
    if not os.access(there, os.W_OK):
        raise UserError(f"{there}: cannot be written to")
    for name in _FILES:
        if (folder / name).is_dir():
            raise UserError(f"{folder / name}: is a folder, the report has a file of that name")
        if (folder / name).exists() and not overwrite:
            raise UserError(f"{folder / name}: exists already; --overwrite replaces the report")
