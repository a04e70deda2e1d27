"""From a training run to a model bundle: codebooks, calibration, manifest."""

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track
from safetensors.numpy import load_file

from indexing.bundle import (
    TENSORS,
    Bundle,
    Manifest,
    Tensors,
    bundle_tensors,
    calibration_values,
    load_bundle,
    save_bundle,
    test_embedding,
)
from indexing.decision import Calibration
from training.calibration import fit_calibration, run_trials
from training.codebooks import fit_local_features
from training.config import TrainingConfig, read_config
from training.datasets import Picture, find_pictures, fingerprint, read_picture
from training.onnx_export import network_graph
from training.runs import (
    CONFIG,
    DESCRIPTORS,
    EVALUATION,
    METRICS,
    NETWORK,
    network_sha256,
    trained_network,
)

# As many of pictures inside, and of pictures outside a gallery.
CALIBRATION_VIEWS = 4000


class NotEvaluatedError(ValueError):
    """A run is published only with an evaluation of the network that it has now."""

    def __init__(self, run: Path) -> None:
        super().__init__(
            f"{run} has no evaluation of its present network: run"
            f" 'python -m training evaluate --run {run} --dataset DIR' first."
        )


@dataclass(frozen=True, slots=True)
class Publication:
    """What to publish: a run, the pictures to fit the rest on, and what to say of them.

    ``parent`` is the version that the new one is to follow. ``descriptors`` is a run of local
    descriptors to use instead of RootSIFT. ``calibrated_as`` is a bundle to take
    local descriptors, codebooks and calibration from, of which only the weight of the similarity
    depends on the network, instead:
    ``codebook_pictures`` is how many pictures codebooks are fitted on, ``views`` how many views the
    calibration renders of pictures inside, and as many of pictures outside a gallery.
    """

    run: Path
    pictures: Sequence[Path]
    name: str
    trained_on: str
    parent: str | None = None
    descriptors: Path | None = None
    calibrated_as: Path | None = None
    codebook_pictures: int = 3000
    views: int = CALIBRATION_VIEWS
    seed: int = 0


def publish(publication: Publication, output: Path) -> str:
    """Writes the bundle into ``output`` and returns its version.

    Raises DatasetError for pictures that cannot be read, OSError where a run is not complete,
    NotEvaluatedError where its network was not evaluated, BundleInvalid for ``calibrated_as``,
    GraphDiffersError where the network cannot be written as an ONNX graph, ValueError where
    ``descriptors`` and ``calibrated_as`` are both given.
    """
    if publication.descriptors and publication.calibrated_as:
        raise ValueError("Local descriptors come from a run or from another bundle, not from both.")
    figures = _evaluated(publication.run)
    paths = find_pictures(publication.pictures)
    pictures = [] if publication.calibrated_as else _read(paths)
    kept = load_bundle(publication.calibrated_as) if publication.calibrated_as else None
    local = kept.local_tensors if kept else _local_features(publication, pictures)
    config = read_config(publication.run / CONFIG)
    weights = load_file(publication.run / NETWORK)
    graph = network_graph(trained_network(config, weights), config.framing)
    tensors = bundle_tensors(weights, graph, local)
    manifest = _manifest(publication, config, fingerprint(paths), figures)
    with tempfile.TemporaryDirectory() as draft:
        save_bundle(Path(draft), manifest, tensors)
        drafted = load_bundle(Path(draft))
    calibration = (
        kept.calibration
        if kept
        else _calibration(drafted, pictures, publication.views, publication.seed)
    )
    fitted = {
        "calibration": calibration_values(calibration),
        "test_embedding": test_embedding(drafted),
    }
    return save_bundle(output, manifest.model_copy(update=fitted), tensors)


def recalibrate(
    source: Path, folders: Sequence[Path], output: Path, views: int, seed: int = 0
) -> str:
    """Writes the bundle in ``source``, calibrated anew on pictures, and returns the new version.

    Raises BundleInvalid for ``source``, DatasetError for pictures that cannot be read, ValueError where
    there are too few of them or too few wrong candidates.
    """
    former, paths = load_bundle(source), find_pictures(folders)
    calibration = _calibration(former, _read(paths), views, seed)
    fitted = {
        "calibration": calibration_values(calibration),
        "calibration_features": None,
        "data_fingerprint": fingerprint(paths),
        "parent": former.version,
        "code_commit": _commit(),
    }
    manifest = former.manifest.model_copy(update=fitted)
    return save_bundle(output, manifest, load_file(source / TENSORS))


def _read(paths: Sequence[Path]) -> list[Picture]:
    return [read_picture(path) for path in track(paths, "pictures")]


def _local_features(publication: Publication, pictures: Sequence[Picture]) -> Tensors:
    run = publication.descriptors
    descriptors = (run / DESCRIPTORS).read_bytes() if run else None
    rng = np.random.default_rng(publication.seed)
    chosen = rng.permutation(len(pictures))[: publication.codebook_pictures]
    return fit_local_features([pictures[i] for i in chosen], descriptors)


def _calibration(bundle: Bundle, pictures: Sequence[Picture], views: int, seed: int) -> Calibration:
    return fit_calibration(run_trials(bundle, pictures, views, seed))


def _evaluated(run: Path) -> dict[str, float]:
    """The main figures of the evaluation of a run's network."""
    file = run / EVALUATION
    if not file.exists():
        raise NotEvaluatedError(run)
    evaluation = _json(file)
    if evaluation["network_sha256"] != network_sha256(run):
        raise NotEvaluatedError(run)
    return {
        f"{name} recall@{rank}": value
        for name, scores in evaluation["datasets"].items()
        for rank, value in scores["recall"].items()
    }


def _manifest(
    publication: Publication,
    config: TrainingConfig,
    data_fingerprint: str,
    figures: dict[str, float],
) -> Manifest:
    validation = _json(publication.run / METRICS)["validation"]
    return Manifest(
        name=publication.name,
        architecture=config.architecture,
        dimension=config.dimension,
        input_size=config.input_size,
        reference_size=config.reference_size,
        keep_aspect=config.keep_aspect,
        spatial_transformer=config.spatial_transformer,
        trained_on=publication.trained_on,
        data_fingerprint=data_fingerprint,
        parent=publication.parent,
        code_commit=_commit(),
        metrics=(validation[-1] if validation else {}) | figures,
        calibration={},
        tensors_sha256="",
    )


def _commit() -> str | None:
    """The commit of the code, where it is in a Git repository and Git is there."""
    here = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def _json(file: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(file.read_text())
    return values
