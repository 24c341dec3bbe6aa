"""`deblur bench engines` and `deblur bench compare`."""

import argparse
import contextlib
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

_RECORDS = Path("export", "benchmarks")
_ABOUT = ("device", "threads", "system", "commit", "rounds")  # a run, beside the versions


def add_arguments(kinds: Any) -> None:
    kind = kinds.add_parser("engines", help="a network in each engine and precision: JAX, ONNX, OpenVINO, PyTorch")
    kind.add_argument("--models", nargs="+", default=["nano"], metavar="M", help="names, weights, workdirs (nano)")
    kind.add_argument(
        "--engines", nargs="+", metavar="E", help="jax onnxruntime openvino torch torch-... (all there are)"
    )
    kind.add_argument("--precisions", nargs="+", metavar="P", help="of fp32 fp16 int8 (fp32 int8; on a GPU fp32 fp16)")
    kind.add_argument("--sizes", nargs="+", default=["640x360"], metavar="WxH", help="of the pictures (640x360)")
    kind.add_argument("--batches", nargs="+", type=int, default=[1], metavar="N", help="pictures at a time (1)")
    kind.add_argument("--rounds", type=int, default=20, help="turns of each, of which percentiles are given (20)")
    kind.add_argument("--no-memory", action="store_true", help="do not measure memory, which starts each once more")
    kind.add_argument("--json", type=Path, metavar="FILE", help="write what was measured")
    kind.add_argument("--plot", type=Path, metavar="FILE", help="write a chart (SVG)")
    kind.add_argument("--overwrite", action="store_true", help="replace these files if they exist")
    kind.add_argument("--record", action="store_true", help=f"keep it in {_RECORDS}/; not of a CPU")
    kind = kinds.add_parser("compare", help="two files of deblur bench engines --json")
    kind.add_argument("before", type=Path, metavar="A.json")
    kind.add_argument("after", type=Path, metavar="B.json")


def run(options: argparse.Namespace) -> int:
    # Or JAX takes three quarters of a GPU's memory before the others come.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    # PyTorch's threads would otherwise spin while the others are timed.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from deblur_jax.bench import engines, runners
    from deblur_jax.cli.bench import size_of
    from deblur_jax.errors import UserError
    from deblur_jax.restore.images import check_output

    if any(batch < 1 for batch in options.batches):
        raise UserError(f"--batches must be from 1, not {min(options.batches)}")
    for precision in options.precisions or ():
        if precision not in engines.PRECISIONS:
            raise UserError(f"--precisions: there are {', '.join(engines.PRECISIONS)}, not {precision!r}")
    sizes = [size_of(text, "--sizes") for text in options.sizes]
    for path, suffix in ((options.json, ".json"), (options.plot, ".svg")):
        if path:
            check_output(path, overwrite=options.overwrite, suffixes=(suffix,))
    names, missing = runners.chosen(options.engines)
    import jax

    from deblur_jax.bench import chart, machine
    from deblur_jax.files import write_whole

    on_cpu = jax.default_backend() == "cpu"
    if options.record and on_cpu:
        raise UserError("--record: records are kept of GPUs and TPUs only, this is a CPU; --json FILE writes anywhere")
    if options.record and not _RECORDS.parent.is_dir():
        raise UserError("--record writes into export/ of the repository, which is not here")
    precisions = options.precisions or (["fp32", "int8"] if on_cpu else ["fp32", "fp16"])
    plan = engines.Plan(
        options.models, names, precisions, sizes, options.batches, options.rounds, memory=not options.no_memory
    )
    found: list[dict[str, Any]] = []
    kept = {**machine.about(shlex.join(["deblur", *sys.argv[1:]])), "rounds": options.rounds, "rows": found}
    for line in missing:
        print(line)
    groups = engines.measure(plan, say=lambda line: print(line, flush=True))
    best = {p: machine.matrix_peak(p) for p in precisions}
    kept["matrix_peak"], kept["bandwidth"] = best, machine.bandwidth()
    said = ", ".join(f"{p} {peak / 1e12:.3g} TOP/s" for p, peak in best.items() if peak)
    print(f"{kept['device']}, {kept['threads']} threads; matrices {said}; memory {kept['bandwidth'] / 1e9:.3g} GB/s")
    print(f"milliseconds a batch, {options.rounds} turns of each, interleaved; ratio: times as fast as JAX in fp32")
    with contextlib.closing(groups):
        for rows in groups:
            found.extend(vars(row) for row in rows)
            print(_table(rows), flush=True)
            # After each group, so that what was measured is there when the rest is interrupted.
            if options.json:
                write_whole(options.json, _text(kept))
            if options.plot:
                write_whole(options.plot, chart.bars(kept).encode(errors="backslashreplace"))
    if options.record:
        path = _RECORDS / f"engines-{kept['device'].replace(' ', '-')}.json"
        path.parent.mkdir(exist_ok=True)
        write_whole(path, _text(kept))
        print(f"kept in {path}")
    return 0


def _text(kept: dict[str, Any]) -> bytes:
    return (json.dumps(kept, indent=1) + "\n").encode()


def _table(rows: Any) -> str:
    first = next((row.p50 for row in rows if (row.engine, row.precision) == ("jax", "fp32")), None)
    head = f"{rows[0].model}, {rows[0].size}, batch {rows[0].batch}"
    lines = [
        f"\n{head:28} {'p50':>8} {'p90':>8} {'p99':>8} {'copies':>8} {'ratio':>6} {'images/s':>8} {'of peak':>8} "
        f"{'of roof':>8} {'memory':>8} {'ready':>7}"
    ]
    for row in rows:
        name = f"  {row.engine} {row.precision}"
        if row.p50 is None:
            lines.append(f"{name:28} {row.note}")
            continue
        times = " ".join(f"{1000 * t:8.1f}" for t in (row.p50, row.p90, row.p99, row.copies_p50))
        ratio = f"{first / row.p50:6.2f}" if first else f"{'-':>6}"
        shares = " ".join(f"{'-':>8}" if share is None else f"{share:8.1%}" for share in (row.of_peak, row.of_roofline))
        memory = "-" if row.memory is None else f"{row.memory / 1e6:.0f} MB"
        lines.append(f"{name:28} {times} {ratio} {row.images_per_s:8.2f} {shares} {memory:>8} {row.ready:6.1f}s")
    return "\n".join(lines)


# --- Two runs ---------------------------------------------------------------------------------------------------


def compare(options: argparse.Namespace) -> int:
    from deblur_jax.errors import UserError

    before, after = _read(options.before), _read(options.after)
    for name in _ABOUT:
        if before.get(name) != after.get(name):
            print(f"{name} differs: {before.get(name)}, {after.get(name)}")
    versions = [dict(kept.get("versions") or {}) for kept in (before, after)]
    for name in sorted({*versions[0], *versions[1]}):
        if versions[0].get(name) != versions[1].get(name):
            print(f"{name} differs: {versions[0].get(name, 'none')}, {versions[1].get(name, 'none')}")
    rows = [{_key(row): row for row in kept["rows"] if row["p50"] is not None} for kept in (before, after)]
    both = [key for key in rows[0] if key in rows[1]]
    if not both:
        raise UserError(f"{options.before} and {options.after} have no combination in common")
    print(f"{'milliseconds':52} {'A':>9} {'B':>9} {'B / A':>7}")
    for key in both:
        a, b = (1000 * of[key]["p50"] for of in rows)
        print(f"{' '.join(map(str, key)):52} {a:9.1f} {b:9.1f} {b / a:7.2f}")
    for letter, mine, other in (("A", *rows), ("B", *rows[::-1])):
        for key in mine:
            if key not in other:
                print(f"{' '.join(map(str, key)):52} in {letter} alone")
    return 0


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["model"], row["engine"], row["precision"], row["size"], f"batch {row['batch']}"


def _read(path: Path) -> dict[str, Any]:
    from deblur_jax.errors import UserError

    try:
        kept = json.loads(path.read_text())
        rows = [(_key(row), row["p50"]) for row in kept["rows"]]
        hash((*map(kept.get, _ABOUT), *(kept.get("versions") or {}).values(), *rows))  # no lists within
        if not all(p50 is None or 0 < p50 < 1e9 for _, p50 in rows):
            raise ValueError
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path}: not a file of deblur bench engines --json") from None
    return kept
