"""What the dataset folders in `data/` have in common: a TFDS builder is a tree, and the rest is here.

Builders work with TFDS in the usual way and with `deblur data prepare`, which resumes and needs no TensorFlow.
"""

import abc
import importlib
import importlib.util
import sys
import types
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from deblur_jax.errors import UserError
from deblur_jax.pipeline.checks import Survey, Tick, complete, survey
from deblur_jax.pipeline.extra import epath, registered, tfds
from deblur_jax.pipeline.prepare import Source
from deblur_jax.pipeline.trees import Example, demand_readable

__all__ = ["DeblurBuilder", "find_builder", "load_source"]


class DeblurBuilder(tfds.core.GeneratorBasedBuilder):
    """A dataset: its tree (`examples`) and its facts. Facts that differ between configs are properties."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "README.md of the dataset's folder says where to get it and how it should lie."
    HOMEPAGE: ClassVar[str] = ""
    LICENSE: ClassVar[str] = ""

    @property
    def video(self) -> bool:
        """Whether neighbouring frames of a sequence are neighbours in time, so that video can be trained on."""
        return False

    @property
    def has_blur(self) -> bool:
        """False for sharp pictures alone, which are blurred later."""
        return True

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height, where all pictures have the same."""
        return None

    @property
    def counts(self) -> dict[str, int]:
        """How many examples each split was published with; empty where nobody can know."""
        return {}

    @abc.abstractmethod
    def examples(self, folder: Path) -> dict[str, list[Example]]:
        """The published examples of each split, whether or not they are there. A sequence's frames in order."""

    def make_blur(self, sharp: bytes, example: Example) -> bytes | None:
        """The blurred picture, for configs that make it while preparing."""
        return None

    @property
    def makes_blur(self) -> bool:
        return False

    def _info(self) -> Any:
        names = ("blur", "sharp") if self.has_blur or self.makes_blur else ("sharp",)
        image = {name: tfds.features.Image() for name in names}
        text = {"sequence": tfds.features.Text(), "frame": np.int32, "name": tfds.features.Text()}
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({**image, **text}),
            homepage=self.HOMEPAGE,
            license=self.LICENSE,
            disable_shuffling=True,  # sequences stay together
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        folder = Path(dl_manager.manual_dir)
        splits = self.examples(folder)
        survey(splits, folder, size=self.size, counts=self.counts).demand(folder)
        return {split: self._generate_examples(examples) for split, examples in splits.items()}

    def _generate_examples(self, examples: list[Example]) -> Iterator[tuple[int, dict]]:
        for i, example in enumerate(examples):
            fields: dict[str, Any] = {"sharp": example.sharp.read_bytes()}
            if self.has_blur or self.makes_blur:
                made = self.make_blur(fields["sharp"], example) if example.blur is None else None
                fields["blur"] = example.blur.read_bytes() if example.blur else made
            yield i, {**fields, "sequence": example.sequence, "frame": example.frame, "name": example.name}


def find_builder(folder: Path) -> type[DeblurBuilder]:
    """The class `Builder` in `*_dataset_builder.py` of a dataset's folder, wherever that is."""
    demand_readable(folder, "name a dataset's folder, such as data/reds")
    files = sorted(folder.glob("*_dataset_builder.py"))
    if len(files) != 1:
        raise UserError(f"{folder}: holds {len(files)} files *_dataset_builder.py, a dataset's folder holds one")
    if "." in files[0].stem:
        raise UserError(f"{files[0]}: has a dot in its name, which Python takes for a package; name it without")
    # The folder becomes a package below a parent of our own, whatever it is called and whatever else is installed.
    folder = folder.resolve()
    parent = f"_deblur_datasets_{zlib.crc32(str(folder.parent).encode()):08x}"
    if parent not in sys.modules:
        sys.modules[parent] = types.ModuleType(parent)
        sys.modules[parent].__path__ = [str(folder.parent)]
        sys.modules[parent].__file__ = str(folder.parent / "__init__.py")  # TFDS wants to know
    # TFDS keeps a register by name, which a second folder of the same name must not trip over.
    with registered.skip_registration():
        module = importlib.import_module(f"{_package(folder, parent)}.{files[0].stem}")
    builder = getattr(module, "Builder", None)
    if not (isinstance(builder, type) and issubclass(builder, DeblurBuilder)):
        raise UserError(f"{files[0]}: has no class Builder(DeblurBuilder)")
    builder.pkg_dir_path = epath.Path(folder)  # where TFDS finds README.md and the citations
    return builder


def _package(folder: Path, parent: str) -> str:
    """The name to import the folder by: its own, but for dots, which would be packages within packages."""
    if "." not in folder.name:
        return f"{parent}.{folder.name}"
    name = f"{parent}.{folder.name.replace('.', '_')}_{zlib.crc32(folder.name.encode()):08x}"
    if name not in sys.modules:
        init = folder / "__init__.py"
        if init.is_file():
            spec = importlib.util.spec_from_file_location(name, init, submodule_search_locations=[str(folder)])
            assert spec
            assert spec.loader
            sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[name])
        else:
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__path__ = [str(folder)]
            sys.modules[name].__file__ = str(init)
    return name


def load_source(
    folder: Path,
    manual: Path,
    *,
    config: str | None = None,
    allow_partial: bool = False,
    tick: Tick | None = None,
) -> tuple[Source, Survey]:
    """Lists and checks a dataset as it lies in `manual`; an error names what is missing or damaged."""
    builder_class = find_builder(folder)
    configs = [c.name for c in builder_class.BUILDER_CONFIGS]
    if config is not None and config not in configs:
        raise UserError(f"{folder}: no config {config}; {' '.join(configs) or 'it has none'}")
    demand_readable(manual, f"{folder}/README.md says how to get the dataset")
    # (A directory that is not there: TFDS would otherwise read what it finds prepared in its own.)
    builder = builder_class(config=config, data_dir=manual / ".none")
    try:
        splits = builder.examples(manual)
        found = survey(splits, manual, size=builder.size, counts=builder.counts, tick=tick)
    except PermissionError as error:
        where = error.filename or manual
        raise UserError(f"{where}: cannot be read: {error.strerror}; mend its permissions, or move it away") from None
    found.demand(manual, allow_missing=allow_partial)
    if found.missing:
        splits = complete(splits)
        if not splits:
            raise UserError(f"{manual}: nothing of the dataset is there; {folder}/README.md says how it should lie")
    source = Source(
        name=builder.name,
        config=builder.builder_config.name if builder.builder_config else "",
        version=str(builder.version),
        splits=splits,
        headers=found.headers,
        make_blur=builder.make_blur if builder.makes_blur else None,  # pyright: ignore[reportArgumentType]
        description=builder.info.description or "",
        citation=builder.info.citation or "",
        homepage=builder.HOMEPAGE,
        license=builder.LICENSE,
        metadata={"video": builder.video, "left_out": found.missing},
    )
    return source, found
