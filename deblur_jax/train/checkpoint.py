"""What is saved of a run: state, averaged weights and step, with the config and the version that made them."""

import contextlib
import math
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils

from deblur_jax import __version__
from deblur_jax.errors import UserError
from deblur_jax.files import is_address, make_folder, store
from deblur_jax.train.config import Config
from deblur_jax.train.step import State

_managers = ocp.checkpoint_managers


class Checkpoints:
    """The last few and the best, in a folder or in an object store.

    Written behind training's back, and not seen as checkpoints until they are whole.
    """

    def __init__(self, folder: str, config: Config):
        self._config, self._folder = config, epath.Path(folder)
        if not is_address(folder):
            make_folder(Path(folder))
            if not os.access(folder, os.W_OK):
                raise UserError(f"{folder}: cannot be written, and checkpoints go there")
        self._manager = self._opened()

    def _opened(self) -> ocp.CheckpointManager:
        best = _managers.BestN(get_metric_fn=_psnr, n=1, keep_checkpoints_without_metrics=False)
        latest = _managers.LatestN(max(1, self._config.checkpoint.keep))
        options = ocp.CheckpointManagerOptions(
            preservation_policy=_managers.AnyPreservationPolicy([latest, best]),
            best_fn=_psnr,  # without it scores are not written, and the best one is forgotten at a restart
            cleanup_tmp_directories=True,  # of saves that failed
            enable_async_checkpointing=True,
        )
        return ocp.CheckpointManager(self._folder, options=options)

    def save(self, step: int, state: State, scores: dict[str, float]) -> None:
        """Returns at once. What goes wrong with a save is said, and training goes on: the one before is whole."""
        about = {"config": self._config.to_dict(), "version": __version__, "step": step, "scores": scores}
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), about=ocp.args.JsonSave(_plain(about)))
        self.wait()  # its failure is the last one's
        try:
            self._find_room(state)
            self._manager.save(step, args=items, metrics=scores or {"psnr": -math.inf}, force=True)
        except (OSError, ValueError) as error:
            self._complain(step, error)

    def _find_room(self, state: State) -> None:
        """A disk known to be too full is refused here: Orbax would fail, too, in hundreds of lines."""
        needed, free = sum(leaf.nbytes for leaf in jax.tree.leaves(state)), math.inf
        with contextlib.suppress(OSError):  # an object store, or a folder that is gone
            free = shutil.disk_usage(self._folder).free
        if multihost_utils.broadcast_one_to_all(np.asarray(needed > free)):  # all save, or none
            raise OSError(f"it takes up to {needed / 1e6:.0f} MB, and the disk has {free / 1e6:.0f} MB left")

    def latest(self) -> int | None:
        return self._manager.latest_step()

    def wait(self) -> None:
        try:
            self._manager.wait_until_finished()
        except (OSError, ValueError) as error:
            self._complain(None, error)

    def close(self) -> None:
        self.wait()
        with contextlib.suppress(OSError, ValueError):  # which has been complained of
            self._manager.close()

    def _complain(self, step: int | None, error: Exception) -> None:
        which = "the last checkpoint" if step is None else f"the checkpoint of step {step}"
        print(f"deblur train: {which} was NOT saved: {str(error).splitlines()[0]}", file=sys.stderr, flush=True)
        # This manager would raise the same error at every later save.
        with contextlib.suppress(OSError, ValueError):
            self._manager.close()
        with contextlib.suppress(OSError, ValueError):
            self._manager = self._opened()

    def restore(self, fresh: State) -> tuple[State, int] | None:
        """The latest that can be read, laid out like `fresh`; None where there is none."""
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), fresh)
        failed: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                about = self._manager.restore(step, args=ocp.args.Composite(about=ocp.args.JsonRestore()))["about"]
                self._compare(about["config"])
                items = ocp.args.Composite(state=ocp.args.StandardRestore(like))
                state = self._manager.restore(step, args=items)["state"]
            except UserError:
                raise
            except Exception as error:  # Orbax raises whatever its layers raise
                failed[step] = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
                continue
            self._put_aside(failed, step)
            return state, step
        if failed:  # perhaps not for damage, but for want of memory: so they stay where they are
            why = next(iter(failed.values()))
            raise UserError(
                f"{self._folder}: none of {len(failed)} checkpoints can be read ({why}); move it away to begin anew"
            )
        return None

    def _put_aside(self, failed: dict[int, str], good: int) -> None:
        """What cannot be read where an older one can is damaged. The manager would not save these steps again."""
        for step, why in failed.items():
            print(f"deblur train: checkpoint {step} cannot be read, taking that of {good}: {why}", file=sys.stderr)
            if jax.process_index() == 0:
                (self._folder / str(step)).rename(self._folder.parent / f"damaged-checkpoint-{step}")
        if failed:
            multihost_utils.sync_global_devices("damaged checkpoints are out of the way")
            self._manager.reload()

    def _compare(self, saved: dict[str, Any]) -> None:
        now = _plain(self._config.to_dict())
        for field, before, asked in (
            ("network", saved["network"], now["network"]),
            ("variant", saved["variant"], now["variant"]),
            ("optim.name", saved["optim"]["name"], now["optim"]["name"]),
        ):
            if before != asked:
                raise UserError(f"{self._folder.parent}: its config.{field} is {before!r}, not {asked!r}; name another")


def _psnr(scores: dict[str, float]) -> float:
    return scores.get("psnr", -math.inf)


def begun(workdir: str | Path) -> bool:
    """Whether there is a checkpoint to go on from."""
    if not is_address(workdir):
        return any(path.name.isdigit() for path in Path(workdir, "checkpoints").glob("*"))
    if not str(workdir).startswith("gs://"):
        return False  # refused as soon as it is opened
    with store(f"{str(workdir).rstrip('/')}/checkpoints") as there:
        return there.exists() and any(path.name.isdigit() for path in there.iterdir())


def _plain(value: Any) -> Any:
    """Tuples as lists, which is what JSON makes of them."""
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value
