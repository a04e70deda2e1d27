"""A model version as files: everything that turns pictures into features and features into answers.

A bundle is a folder with ``manifest.json`` and ``model.safetensors``. It is content-addressed: its
version is a hash over the manifest, which holds the hash of the tensors; both are checked on load.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from indexing.corner_orb import CornerOrbExtractor
from indexing.decision import FEATURES, FORMER_FEATURES, Calibration, ChannelCalibration
from indexing.descriptor_index import Codebook
from indexing.embedding import Embedder
from indexing.errors import BundleInvalid
from indexing.framing import Framing
from indexing.image import Pixels
from indexing.keypoints import Channel, Extractor, OrbExtractor, Projection, SiftExtractor
from indexing.onnx_embedder import OnnxEmbedder
from indexing.patch_extractor import PatchExtractor

DEFAULT_BUNDLE = Path(__file__).parent / "default_bundle"
# Cosine of the test embedding to the one computed again: other processors round otherwise.
TEST_SIMILARITY = 0.999
MANIFEST, TENSORS = "manifest.json", "model.safetensors"
# The tensor that holds the network as an ONNX file. Bundles of before there were any have none, nor has
# a network that cannot be written as one.
GRAPH = "onnx"
# The tensor that holds the network of local descriptors as an ONNX file. Without, they are RootSIFT.
DESCRIPTOR_GRAPH = "descriptors.onnx"
LOCAL_TENSORS = ("sift.", "codebook.", DESCRIPTOR_GRAPH)

Tensors = Mapping[str, npt.NDArray[Any]]
# By the features' names, or as older bundles list them.
Weights = dict[str, float] | tuple[float, ...]


class Manifest(BaseModel):
    """What a bundle says of itself.

    The network sees photos as large as squares of ``input_size`` pixels a side, references as those of
    ``reference_size``, or of ``input_size`` where that is None. They ``keep_aspect`` or are squashed to
    the squares; a ``spatial_transformer`` cuts pictures out as large as references.
    In ``format`` 4 local features are of corners, those of ORB and learnt ones; in 2 they are ORB and
    RootSIFT.
    ``calibration`` maps a channel to its regression. Older bundles list its weights, of the features that
    ``calibration_features`` names, or of the first of them; newer ones name each weight.
    ``test_embedding`` is the embedding of ``test_picture``, to be computed again; ``trained_on``,
    ``metrics``, the ``parent``'s version and the ``code_commit`` are for people.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[2, 4] = 2
    name: str
    architecture: str
    dimension: int
    input_size: int
    reference_size: int | None = None
    keep_aspect: bool = False
    spatial_transformer: bool = False
    trained_on: str
    data_fingerprint: str
    parent: str | None = None
    test_embedding: tuple[float, ...] = ()
    code_commit: str | None = None
    metrics: dict[str, float]
    calibration: dict[Channel, dict[str, Any]]
    calibration_features: tuple[str, ...] | None = None
    tensors_sha256: str

    @property
    def framing(self) -> Framing:
        """How the network's pictures are scaled."""
        reference_size = self.reference_size or self.input_size
        return Framing(self.input_size, reference_size, self.keep_aspect)


class Bundle:
    """A loaded model version: its embedder, extractors of local features, codebooks and calibration.

    ``local_tensors`` are those that all but the embedder comes from.
    """

    def __init__(self, manifest: Manifest, version: str, tensors: Tensors) -> None:
        self.manifest = manifest
        self.version = version
        self.local_tensors = {
            name: values for name, values in tensors.items() if name.startswith(LOCAL_TENSORS)
        }
        self.extractors = _extractors(tensors)
        self.codebooks = {channel: _codebook(channel, tensors) for channel in Channel}
        self.calibration: Calibration = {
            channel: _calibration(values, manifest.calibration_features)
            for channel, values in manifest.calibration.items()
        }
        prefix = "network."
        self._weights = {
            name.removeprefix(prefix): np.array(values)
            for name, values in tensors.items()
            if name.startswith(prefix)
        }
        self._graph: bytes | None = tensors[GRAPH].tobytes() if GRAPH in tensors else None

    @cached_property
    def embedder(self) -> Embedder:
        """The network. Raises BundleInvalid where the weights do not fit the architecture."""
        return self._embedder(None if faiss.get_num_gpus() else self._graph)

    def verify(self) -> None:
        """Raises BundleInvalid where the network does not compute what the manifest says.

        It is to do so by whatever may run it: its graph, and PyTorch.
        """
        fine = self.extractors[Channel.FINE]
        fine.extract(test_picture(), fine.query_count)
        stated = np.array(self.manifest.test_embedding)
        if stated.shape != (self.manifest.dimension,):
            problem = "It states no test embedding of its dimension: publish it again."
            raise BundleInvalid(path=self.version, problem=problem)
        for graph in dict.fromkeys((self._graph, None)):
            computed = self._embedder(graph).embed([test_picture()]).vectors[0]
            if not computed @ stated >= TEST_SIMILARITY * np.linalg.norm(stated) > 0:
                problem = "Its network does not compute the test embedding that it states."
                raise BundleInvalid(path=self.version, problem=problem)

    def _embedder(self, graph: bytes | None) -> Embedder:
        """By the graph, or without one by PyTorch."""
        manifest = self.manifest
        try:
            if graph is None:
                return self._torch_embedder()
            return OnnxEmbedder(graph, self.version, manifest.framing, manifest.dimension)
        except (RuntimeError, ValueError) as error:
            raise BundleInvalid(path=self.version, problem=str(error)) from error

    def _torch_embedder(self) -> Embedder:
        # PyTorch takes seconds to import, and most processes do without it.
        from indexing.network import TorchEmbedder, load_network

        manifest, framing = self.manifest, self.manifest.framing
        network = load_network(
            manifest.architecture,
            manifest.dimension,
            self._weights,
            straightened_size=framing.reference_size if manifest.spatial_transformer else None,
        )
        return TorchEmbedder(network, self.version, framing)


def test_picture() -> Pixels:
    """The picture of a bundle's test embedding: RGB, uint8 [96, 128, 3]."""
    y, x = np.mgrid[:96, :128]
    return np.stack([x * 2, y * 2, (x * y) % 256], axis=2).astype(np.uint8)


def test_embedding(bundle: Bundle) -> tuple[float, ...]:
    """The test embedding of a bundle, for its manifest."""
    (vector,) = bundle.embedder.embed([test_picture()]).vectors
    return tuple(round(float(value), 6) for value in vector)


def load_bundle(folder: Path) -> Bundle:
    """Loads and verifies the bundle in ``folder``.

    Raises BundleInvalid where a file is missing or damaged, the hash differs, the manifest is of
    another format, or a weight is not finite.
    """
    try:
        described = (folder / MANIFEST).read_bytes()
        stored = (folder / TENSORS).read_bytes()
        manifest = Manifest.model_validate_json(described)
        if hashlib.sha256(stored).hexdigest() != manifest.tensors_sha256:
            raise BundleInvalid(path=folder, problem=f"{TENSORS} does not have the stated hash.")
        tensors = load(stored)
        if not all(np.isfinite(values).all() for values in tensors.values()):
            raise BundleInvalid(path=folder, problem="A weight is not finite.")
        return Bundle(manifest, _version(manifest.name, described), tensors)
    except (OSError, ValidationError, SafetensorError, KeyError, ValueError) as error:
        raise BundleInvalid(path=folder, problem=str(error)) from error


def save_bundle(folder: Path, manifest: Manifest, tensors: Tensors) -> str:
    """Writes a bundle, filling in the tensors' hash and format, and returns its version."""
    folder.mkdir(parents=True, exist_ok=True)
    stored = save(dict(tensors))
    digest = hashlib.sha256(stored).hexdigest()
    # Servers that cannot find the same local features read no such format.
    stated = {"tensors_sha256": digest, "format": 4 if DESCRIPTOR_GRAPH in tensors else 2}
    described = manifest.model_copy(update=stated).model_dump_json(indent=2)
    (folder / TENSORS).write_bytes(stored)
    (folder / MANIFEST).write_text(described + "\n")
    return _version(manifest.name, (described + "\n").encode())


def bundle_tensors(
    network: Tensors, graph: bytes | None, local: Tensors
) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a bundle by their names in its file; the network's as float16.

    ``local`` are the ``local_tensors`` of another bundle, or what the function of that name made.
    """
    tensors: dict[str, npt.NDArray[Any]] = {
        f"network.{name}": _halved(values) for name, values in network.items()
    }
    if graph is not None:
        tensors[GRAPH] = np.frombuffer(graph, np.uint8)
    return tensors | dict(local)


def local_tensors(
    descriptors: bytes | Projection, codebooks: Mapping[Channel, Codebook]
) -> dict[str, npt.NDArray[Any]]:
    """The tensors that local features come from: a graph of descriptors or a projection, codebooks."""
    tensors: dict[str, npt.NDArray[Any]] = {}
    if isinstance(descriptors, bytes):
        tensors[DESCRIPTOR_GRAPH] = np.frombuffer(descriptors, np.uint8)
    else:
        tensors["sift.mean"] = descriptors.mean
        tensors["sift.basis"] = np.ascontiguousarray(descriptors.basis)
        tensors["sift.scale"] = np.array([descriptors.scale], np.float32)
    for channel, codebook in codebooks.items():
        for level, centroids in enumerate(codebook.centroids):
            tensors[f"codebook.{channel}.{level}"] = centroids
    return tensors


def calibration_values(calibration: Calibration) -> dict[Channel, dict[str, Any]]:
    """The calibration as a manifest holds it."""
    return {channel: asdict(values) for channel, values in calibration.items()}


def _calibration(values: Mapping[str, Any], listed: tuple[str, ...] | None) -> ChannelCalibration:
    """A channel's calibration from what a manifest holds; ``listed`` names weights that have no names.

    Raises ValueError where there are fewer names than weights, or a name is not known.
    """
    stored: TypeAdapter[Weights] = TypeAdapter(Weights)
    weights = stored.validate_python(values["weights"])
    if isinstance(weights, tuple):
        names = FORMER_FEATURES if listed is None else listed
        if len(weights) > len(names):
            raise ValueError("It weighs more evidence than it names.")
        weights = dict(zip(names, weights, strict=False))
    if not {*FEATURES, *FORMER_FEATURES}.issuperset(weights):
        raise ValueError("It is calibrated on other evidence.")
    return TypeAdapter(ChannelCalibration).validate_python({**values, "weights": weights})


def _halved(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return values.astype(np.float16) if values.dtype == np.float32 else values


def _version(name: str, described: bytes) -> str:
    return f"{name}-{hashlib.sha256(described).hexdigest()[:12]}"


def _extractors(tensors: Tensors) -> dict[Channel, Extractor]:
    if DESCRIPTOR_GRAPH in tensors:
        learnt = PatchExtractor(tensors[DESCRIPTOR_GRAPH].tobytes())
        return {Channel.ORB: CornerOrbExtractor(), Channel.FINE: learnt}
    mean, basis = tensors["sift.mean"], tensors["sift.basis"]
    projection = Projection(mean, basis, float(tensors["sift.scale"][0]))
    return {Channel.ORB: OrbExtractor(), Channel.FINE: SiftExtractor(projection)}


def _codebook(channel: Channel, tensors: Tensors) -> Codebook:
    prefix = f"codebook.{channel}."
    names = sorted(name for name in tensors if name.startswith(prefix))
    if not names:
        raise KeyError(f"{prefix}0")
    return Codebook(channel, tuple(tensors[name] for name in names))
