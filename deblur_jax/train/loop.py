"""The run. In this order: devices, data, state (begun or taken up again), then steps until the end or a signal."""

import collections
import contextlib
import json
import math
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from deblur_jax import __version__, weights
from deblur_jax.errors import UserError
from deblur_jax.models import zoo
from deblur_jax.pipeline.loader import feed
from deblur_jax.restore.images import encode_image, write_whole
from deblur_jax.train import data, peak
from deblur_jax.train import mesh as meshes
from deblur_jax.train import step as steps
from deblur_jax.train.checkpoint import Checkpoints, begun
from deblur_jax.train.config import Config
from deblur_jax.train.log import Log
from deblur_jax.train.workdir import Workdir

DONE, FAILED, RESUMABLE = 0, 1, 75
_BACK = -1  # to the last checkpoint
_LAG = 2  # steps whose numbers are not looked at yet, so that the device never waits for us
_MOST_SKIPPED = 10  # bad batches in a row
_JUDGED_BY = (("val", "count"), ("val", "side"), ("data", "val"))
_SHARP, _SAME = 40.0, 60.0  # dB: what is that near to its sharp picture is not blurred; is as good as the same


class _Stop:
    """Whether SIGTERM or SIGINT came, or the scheduler wants the machine back; agreed among all processes.

    While XLA compiles, minutes for the largest networks, Python's handlers wait. Before the first step there is nothing
    to save, so a thread that the signal wakes leaves at once.
    """

    def __init__(self) -> None:
        self.asked = self.stepped = False
        # With several processes JAX's own preemption service listens to SIGTERM, and finds a step that suits all.
        ours = (signal.SIGTERM, signal.SIGINT) if jax.process_count() == 1 else ()
        self._before = {s: signal.signal(s, self._ask) for s in ours}
        woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._woke_before = signal.set_wakeup_fd(self._waker.fileno())
        threading.Thread(target=self._leave, args=(woken, ours), daemon=True).start()

    def _ask(self, signum: int, _: Any) -> None:
        if self.asked and signum == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice
        self.asked = True

    def _leave(self, woken: socket.socket, ours: tuple[signal.Signals, ...]) -> None:
        with woken:
            while number := woken.recv(1):
                if number[0] in ours and not self.stepped:
                    print("stopped before its first step; the same command begins there", file=sys.stderr, flush=True)
                    _exit(RESUMABLE)

    def at(self, step: int) -> bool:
        self.stepped = True
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self.asked

    def close(self) -> None:
        signal.set_wakeup_fd(self._woke_before)
        self._waker.close()
        for s, handler in self._before.items():
            signal.signal(s, handler)


def _exit(code: int) -> NoReturn:
    """At once, without what other threads and processes wait for."""
    for child in multiprocessing.active_children():
        child.terminate()
    os._exit(code)


def run(config: Config, address: str | Path, *, on_nan: str = "stop", profile: bool = False) -> int:
    """Trains, or goes on, to `config.steps`, in the workdir at `address`.

    The exit code: 0 done, 1 the loss failed, 75 stopped and resumable.
    """
    mesh = meshes.make(**config.mesh)
    _check_sizes(config, mesh)
    anew = not begun(address)
    module, parameters = network(config, read=anew)
    train, val = data.sources(config)
    recipe = data.recipe(config)
    windows = data.recorded(config, recipe)
    first = jax.process_index() == 0
    with contextlib.closing(Workdir(address)) as workdir, contextlib.closing(_Stop()) as stop:
        checkpoints = Checkpoints(workdir.checkpoints, config)
        loader = data.loader(config, train, recipe)

        def begin() -> steps.State:
            return steps.start(module, config, mesh, parameters)

        def batches(start: int) -> Iterator[Any]:
            return feed(loader.batches(start), meshes.rows_of_batch(mesh))

        state = begin()
        restored = checkpoints.restore(state)
        if restored is None and not anew:  # what looked like a checkpoint was none
            parameters = network(config)[1]
            state = begin()
        state, start = restored or (state, 0)
        if start > config.steps or (start == config.steps and workdir.has("final.safetensors")):
            raise UserError(f"{workdir}: step {start} of {config.steps} is done already; --config.steps=MORE goes on")
        log = Log(workdir.folder, start, config.steps, writes=first)
        log.say(_greeting(config, mesh, start, train, val))
        try:
            trainer = _Trainer(config, mesh, module, state, start, log, workdir, on_nan)
            if start == config.steps:  # killed after its last checkpoint, or the disk was full
                return DONE if trainer.export("final.safetensors", {}) else FAILED
            trainer.step = steps.train_step(
                module, config, mesh, recipe, None if windows is None else jnp.asarray(windows)
            )
            trainer.judged = data.validation(config, val, recipe, windows, mesh)
            trainer.judge = steps.judge(module, mesh, brightens=zoo.get(config.network).brightens)
            try:
                return trainer.train(batches, begin, checkpoints, stop, profile=profile)
            finally:
                trainer.end_trace()
        finally:
            checkpoints.close()
            log.close()


def network(config: Config, *, read: bool = True) -> tuple[nn.Module, Any]:
    """The module, and the parameters to begin with if the config names some and they shall be `read`."""
    entry = zoo.get(config.network)
    try:
        entry = entry.varied(**config.variant)
    except (TypeError, UserError) as error:
        raise UserError(f"config.variant: {error}") from None
    module = entry.training(dtype=jnp.dtype(config.dtype).type, remat=config.remat)
    if not (config.start_from and read):
        return module, None
    found = weights.resolve(config.start_from)
    theirs = found.entry.deployed().config if found.merged else found.entry.config
    if (found.network, theirs) != (config.network, entry.config):
        of_file = f"{found.network} {found.variant or ''}".strip()
        if found.merged and found.network == config.network and config.variant.get("branches", True):
            of_file += " (its branches are merged: --config.variant.branches=False)"
        of_config = f"{config.network} {config.variant.to_dict() or ''}".strip()
        first = weights.misfit(found.params, module) if found.network == config.network else ""
        raise UserError(
            f"{config.start_from}: weights of {of_file}; the config has {of_config}{first and ': ' + first}"
        )
    return module, found.params


def _check_sizes(config: Config, mesh: jax.sharding.Mesh) -> None:
    sharing = mesh.shape["data"] * mesh.shape["fsdp"]
    together = config.at_once or config.batch
    if together % sharing:
        raise UserError(f"{together} pictures at once cannot be shared by {sharing} devices (data x fsdp)")
    for _, side in config.crop:
        if side % mesh.shape["space"]:
            raise UserError(f"crops of {side} rows cannot be shared by space={mesh.shape['space']} devices")


def _greeting(config: Config, mesh: jax.sharding.Mesh, start: int, train: list, val: list) -> str:
    where = f"{mesh.size} {jax.devices()[0].device_kind} device{'s' * (mesh.size > 1)}"
    pictures = f"{sum(map(len, train))} pictures to train on, {sum(map(len, val))} for validation"
    return f"{config.network}: {'from step ' + str(start) if start else 'a new run'}, on {where}; {pictures}"


class _Trainer:
    step: Any
    judge: Any
    judged: tuple[jax.Array, jax.Array]

    def __init__(self, config, mesh, module, state, start, log, workdir, on_nan):
        self.config, self.mesh, self.module, self.state = config, mesh, module, state
        self.log, self.workdir, self.on_nan = log, workdir, on_nan
        self.folder = workdir.folder
        self.at, self.pending = start, collections.deque()
        self.skipped, self.mean_loss = 0, math.nan
        self.bad: set[int] = set()  # steps whose batches are passed over
        self.best = _to_beat(workdir.folder / "best.safetensors", config) if start else -math.inf
        self.waited = self.aside = 0.0  # seconds for the input; for what else is no step: compiling, judging, saving
        self.sides: set[int] = set()  # of the crops for which the step is compiled
        self.tracing = False
        self.peak = peak.operations_per_second(mesh, config.dtype)
        self.last_report, self.began = (start, time.perf_counter()), time.perf_counter()

    def train(
        self,
        batches_from: Callable[[int], Iterator],
        begin: Callable[[], steps.State],
        checkpoints: Checkpoints,
        stop: _Stop,
        *,
        profile: bool,
    ) -> int:
        config, code = self.config, DONE
        batches = batches_from(self.at)
        # Five steps, not the first ones, which compile; of a short run the last ones.
        first = max(self.at, min(self.at + 10, config.steps - 5))
        traced = range(first, min(first + 5, config.steps)) if profile else range(0)
        while self.at < config.steps:
            if self.at == traced.start and traced:
                jax.profiler.start_trace(str(self.folder / "profile"))
                self.tracing = True
            waiting = time.perf_counter()
            try:
                batch = next(batches)
            except UserError as error:  # a picture that cannot be read
                self.keep(checkpoints)
                if jax.process_count() > 1:
                    # The others wait for this process in their step, and JAX's orderly exit would wait for them.
                    print(f"deblur train: {error}", file=sys.stderr, flush=True)
                    self.workdir.send()
                    _exit(2)
                raise
            self.waited += time.perf_counter() - waiting
            numbers = self.advance(batch)
            if traced and self.at == traced.stop:
                jax.block_until_ready(numbers)
                self.end_trace()
            while len(self.pending) > _LAG and code == DONE:
                code = self.look()
            stopping = stop.at(self.at)
            # Before anything is saved or judged, everything so far must be known to be good.
            due = any(self.at % every == 0 for every in (config.val.every, config.checkpoint.every))
            if due or stopping or self.at == config.steps:
                while self.pending and code == DONE:
                    code = self.look()
            if code == _BACK:
                self.go_back(checkpoints, begin)
                batches, code, traced = batches_from(self.at), DONE, range(0)
                continue
            if code != DONE:
                return code
            scores: dict[str, float] = {}
            began = time.perf_counter()
            if self.at % config.val.every == 0 or self.at == config.steps:
                scores = self.validate()
            if stopping or self.at % config.checkpoint.every == 0 or self.at == config.steps or scores:
                checkpoints.save(self.at, self.state, scores)
                self.workdir.send()
            self.aside += time.perf_counter() - began
            if stopping and self.at < config.steps:
                checkpoints.wait()
                self.log.say(f"stopped at step {self.at}; the same command goes on from there")
                return RESUMABLE
        return DONE if self.export("final.safetensors", {}) else FAILED

    def advance(self, batch: dict[str, jax.Array]) -> Any:
        """One step, or past it."""
        self.at += 1
        if self.at in self.bad:
            self.state = self.state._replace(step=self.state.step + 1)
            return self.state.step
        began, side = time.perf_counter(), batch["sharp"].shape[-2]
        self.state, numbers = self.step(self.state, batch)
        if side not in self.sides:
            self.aside += time.perf_counter() - began
            if not self.sides and jax.process_index() == 0:  # what is refused when the step is made leaves none
                write_whole(self.folder / "config.json", self.config.to_json_best_effort(indent=1).encode())
            self.sides.add(side)
        self.pending.append((self.at, numbers, batch))
        return numbers

    def go_back(self, checkpoints: Checkpoints, begin: Callable[[], steps.State]) -> None:
        began = time.perf_counter()
        self.end_trace()
        checkpoints.wait()
        self.pending.clear()
        self.state, self.at = checkpoints.restore(self.state) or (begin(), 0)
        try:
            self.log.back(self.at)
        except (OSError, UserError) as error:
            self.log.say(f"deblur train: what came after step {self.at} stays in the log: {error}")
        over = ", ".join(str(at) for at in sorted(self.bad) if at > self.at)
        self.log.say(f"back to step {self.at}; to be passed over: the batches of {over}")
        self.last_report = (self.at, time.perf_counter())
        self.aside += time.perf_counter() - began

    def keep(self, checkpoints: Checkpoints) -> None:
        """What was learned before an error ends the run. Not by several processes: the others might wait for ever."""
        code = DONE
        while self.pending and code == DONE:
            code = self.look()
        if code == DONE and jax.process_count() == 1 and self.at > (checkpoints.latest() or 0):
            checkpoints.save(self.at, self.state, {})

    def end_trace(self) -> None:
        if self.tracing:
            self.tracing = False
            jax.profiler.stop_trace()
            self.log.say(f"traced; open it with TensorBoard's profile plugin or Perfetto: {self.workdir}/profile")

    def look(self) -> int:
        """At the numbers of the oldest step that nobody has looked at."""
        at, numbers, batch = self.pending.popleft()
        numbers = {name: float(value) for name, value in jax.device_get(numbers).items()}
        finite, sound = numbers.pop("finite"), numbers.pop("sound")
        diverged = finite and self.config.diverged and numbers["loss"] > self.config.diverged * self.mean_loss
        if finite and sound and not diverged:
            if at > max(self.bad, default=0):
                self.skipped = 0
            loss = numbers["loss"]
            self.mean_loss = loss if math.isnan(self.mean_loss) else 0.99 * self.mean_loss + 0.01 * loss
            if at % self.config.log_every == 0 or at == self.config.steps:
                speed = self.speed(at)
                foremost = {"images_per_s": speed["images_per_s"], "loss": loss}  # narrow terminals show no more
                self.log.report(at, {**foremost, **numbers, **speed})
            return DONE
        several = f"-process{jax.process_index()}" if jax.process_count() > 1 else ""
        name = f"bad-batch-{at}{several}.npz"
        what = f"the loss is {numbers['loss']:g}" + (f", its mean was {self.mean_loss:.3g}" if diverged else "")
        what = f"step {at}: {what}, the gradient's norm {numbers['gradient']:g}"
        what += "" if sound else ", its parameters are not finite"
        try:
            np.savez(self.folder / name, **{key: _local(value) for key, value in batch.items()})  # pyright: ignore
        except OSError as error:
            what += f"; its batch was NOT saved: {error.strerror}"
        else:
            what += f"; its batch is in {self.workdir}/{name}"
        self.skipped += 1
        if self.on_nan == "rollback" and self.skipped <= _MOST_SKIPPED and len(self.bad) < 10 * _MOST_SKIPPED:
            if sound and not diverged:  # it had no gradient
                self.log.say(f"{what}; skipped")
                return DONE
            self.log.say(what)
            self.bad.add(at)
            return _BACK
        print(f"deblur train: {what}; a smaller config.optim.lr may help", file=sys.stderr, flush=True)
        return FAILED

    def speed(self, at: int) -> dict[str, float]:
        now = time.perf_counter()
        before, then = self.last_report
        self.last_report = (at, now)
        rate = (at - before) * self.config.batch / max(now - then, 1e-9)
        side = next(side for start, side in reversed(self.config.crop) if start < at)
        speed = rate * steps.operations(self.config, side)
        total = now - self.began
        return {
            "images_per_s": rate,
            "tflops": speed / 1e12,
            "utilisation": speed / self.peak,
            "input_wait": self.waited / total,
            "goodput": 1.0 - (self.waited + self.aside) / total,
        }

    def validate(self) -> dict[str, float]:
        blur, sharp = self.judged
        found = jax.device_get(self.judge(self.state.ema, blur, sharp))
        before, found["psnr"] = (np.minimum(x, _SAME) for x in (jax.device_get(_baseline(blur, sharp)), found["psnr"]))
        # Of what is blurred: in a mean with sharp pictures, which are at 50 dB and more, these would decide.
        blurred = before < _SHARP if (before < _SHARP).any() else np.full(before.shape, True)
        scores = {name: float(np.mean(found[name][blurred])) for name in ("psnr", "ssim", "laplacian")}
        scores["psnr_gain"] = float(np.mean((found["psnr"] - before)[blurred]))
        if not blurred.all():
            scores["psnr_sharp"] = float(np.mean(found["psnr"][~blurred]))
        self.log.report(self.at, {f"val/{name}": value for name, value in scores.items()}, loud=True)
        count = self.config.val.pictures
        rows = [np.asarray(x)[:count] for x in (blur, found["estimate"], sharp)]
        sheet = np.vstack([np.hstack(list(row)) for row in rows]) if count else None
        if sheet is not None and jax.process_index() == 0:
            pixels = np.rint(255 * np.clip(sheet, 0, 1)).astype(np.uint8)
            try:
                self.log.picture(self.at, "val/blurred, restored, sharp", pixels)
                write_whole(self.folder / "val.png", encode_image(pixels, ".png"))
            except (OSError, UserError) as error:
                self.log.say(f"deblur train: the pictures of step {self.at} were NOT saved: {error}")
        if scores["psnr"] > self.best and self.export("best.safetensors", scores):
            self.best = scores["psnr"]
        return scores

    def export(self, name: str, scores: dict[str, float]) -> bool:
        """The averaged weights. Where they cannot be written that is said, and training goes on."""
        params, saved = multihost_utils.process_allgather(self.state.ema, tiled=True), True
        if jax.process_index() == 0:
            card = {
                "version": __version__,
                "step": self.at,
                "config": json.loads(self.config.to_json_best_effort()),
                "scores": scores,
            }
            variant = self.config.variant.to_dict()
            try:
                weights.save(self.folder / name, network=self.config.network, variant=variant, params=params, card=card)
            except UserError as error:
                self.log.say(f"deblur train: the weights of step {self.at} were NOT saved: {error}")
                saved = False
        # All must know: else they would part ways when the next best comes.
        return bool(multihost_utils.broadcast_one_to_all(np.asarray(saved)))


def _local(batch: jax.Array) -> np.ndarray:
    """The pictures that this process brought."""
    shards = sorted(batch.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards if shard.replica_id == 0])


def _to_beat(best: Path, config: Config) -> float:
    """The score of the best weights so far, where the same pictures judged them."""
    score = -math.inf
    if best.is_file():
        now = json.loads(config.to_json_best_effort())
        try:
            card = weights.load(best).card
            if all(card["config"][group][name] == now[group][name] for group, name in _JUDGED_BY):
                score = card["scores"]["psnr"]
        except (UserError, KeyError) as error:
            print(f"deblur train: it cannot be read, and the next will replace it: {error}", file=sys.stderr)
    return float(multihost_utils.broadcast_one_to_all(np.asarray(score)))  # a folder may be the first process' alone


@jax.jit
def _baseline(blur: jax.Array, sharp: jax.Array) -> jax.Array:
    from deblur_jax import metrics

    return metrics.psnr(blur, sharp)
