"""From a training run to a model bundle: codebooks, calibration, manifest."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track
from safetensors.numpy import load_file

from indexing.bundle import (
    Manifest,
    bundle_tensors,
    calibration_values,
    load_bundle,
    save_bundle,
)
from training.calibration import fit_calibration, run_trials
from training.codebooks import fit_local_features
from training.datasets import find_pictures, fingerprint, read_picture


@dataclass(frozen=True, slots=True)
class Publication:
    """What to publish: a run, the pictures to fit the rest on, and what to say of them.

    ``codebook_pictures`` is how many pictures the codebooks are fitted on, ``views`` how many
    views the calibration renders of pictures inside, and as many of pictures outside a gallery.
    """

    run: Path
    pictures: Sequence[Path]
    name: str
    trained_on: str
    codebook_pictures: int = 3000
    views: int = 1500
    seed: int = 0


def publish(publication: Publication, output: Path) -> str:
    """Writes the bundle into ``output`` and returns its version.

    Raises DatasetError for pictures that cannot be read, OSError where the run is not complete.
    """
    paths = find_pictures(publication.pictures)
    pictures = [read_picture(path) for path in track(paths, "pictures")]
    rng = np.random.default_rng(publication.seed)
    chosen = rng.permutation(len(pictures))[: publication.codebook_pictures]
    projection, codebooks = fit_local_features([pictures[i] for i in chosen])
    network = load_file(publication.run / "network.safetensors")
    tensors = bundle_tensors(network, projection, codebooks)
    manifest = _manifest(publication, fingerprint(paths))
    with tempfile.TemporaryDirectory() as draft:
        save_bundle(Path(draft), manifest, tensors)
        trials = run_trials(load_bundle(Path(draft)), pictures, publication.views, publication.seed)
    fitted = calibration_values(fit_calibration(trials))
    return save_bundle(output, manifest.model_copy(update={"calibration": fitted}), tensors)


def _manifest(publication: Publication, data_fingerprint: str) -> Manifest:
    config = _json(publication.run / "config.json")
    validation = _json(publication.run / "metrics.json")["validation"]
    return Manifest(
        name=publication.name,
        architecture=config["architecture"],
        dimension=config["dimension"],
        input_size=config["input_size"],
        trained_on=publication.trained_on,
        data_fingerprint=data_fingerprint,
        metrics=validation[-1] if validation else {},
        calibration={},
        tensors_sha256="",
    )


def _json(file: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(file.read_text())
    return values
