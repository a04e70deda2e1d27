"""What a model finds by itself on photos with known answers: by its embedding, and by its votes.

The gallery holds the references of all datasets and the distractors. Nothing is verified or decided
here: these are the channels that bring the candidates.
"""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TypedDict

import cv2
import numpy as np
import torch
from rich.progress import track
from safetensors.numpy import load_file
from torch import nn

from indexing.bundle import Bundle, load_bundle
from indexing.descriptor_index import DescriptorIndex, descriptor_ids
from indexing.embedding import Embedder
from indexing.features import FeatureExtractor
from indexing.framing import Framing
from indexing.keypoints import Channel, LocalFeatures
from indexing.network import EmbeddingNetwork, TorchEmbedder
from indexing.voting import vote
from training.config import read_config
from training.datasets import (
    AnsweredQueries,
    DatasetError,
    find_pictures,
    own_references,
    read_dataset,
    read_picture,
)
from training.ranking import RANKS, Floats, Ranking, micro_ap, recall_at, recall_at_precision
from training.runs import CONFIG, NETWORK, trained_network

LISTED = max(RANKS)
DIMENSIONS = (8, 16, 32, 64, 128, 256, 512)
INDEX_PART = 1000


class DatasetScores(TypedDict):
    """The figures of one dataset; those by votes are None where a model has no local features."""

    queries: int
    unanswered: int
    recall: dict[str, float]
    votes_recall: dict[str, float] | None
    micro_ap: float
    recall_at_p90: float
    votes_by_channel: dict[str, dict[str, float]]
    by_dimension: dict[str, float]
    by_folder: dict[str, dict[str, float]]


class Evaluation(TypedDict):
    """All that was measured, with how it was."""

    model: str
    gallery: int
    milliseconds: dict[str, float]
    datasets: dict[str, DatasetScores]


@dataclass(frozen=True, slots=True)
class Model:
    """A network, and the bundle that it is of, if it is of one: that has local features as well."""

    embedder: Embedder
    bundle: Bundle | None = None


# Loads a model; it is sent to the processes that look at pictures.
Source = Callable[[], Model]


def of_bundle(folder: Path) -> Model:
    """A bundle's model. Raises BundleInvalid."""
    bundle = load_bundle(folder)
    return Model(bundle.embedder, bundle)


def of_run(folder: Path) -> Model:
    """A training run's network. Raises OSError where the run is not complete."""
    config = read_config(folder / CONFIG)
    network = trained_network(config, load_file(folder / NETWORK))
    return Model(TorchEmbedder(network, folder.name, config.framing))


def of_backbone(
    architecture: str, weights: str | None, input_size: int, reference_size: int
) -> Model:
    """A backbone as it is, before any training on our part: its features, pooled."""
    network = EmbeddingNetwork(architecture, weights=weights)
    network.head = nn.Identity()
    name = f"{architecture}, {weights or 'random weights'}"
    return Model(TorchEmbedder(network, name, Framing(input_size, reference_size)))


@dataclass(frozen=True, slots=True)
class Features:
    """What a model makes of pictures: embeddings, float32 [n, dimension], and local features.

    ``milliseconds`` are what one picture took on one core, by the kind of feature.
    """

    embeddings: Floats
    local: Mapping[Channel, Sequence[LocalFeatures]]
    milliseconds: Mapping[str, float]


@dataclass(slots=True)
class Gallery:
    """The pictures to find, with their features and an index of each kind of local ones, by its name."""

    paths: tuple[Path, ...]
    features: Features
    kinds: dict[Channel, str] = field(default_factory=dict)
    votes: dict[Channel, DescriptorIndex] = field(default_factory=dict)

    def numbers(self) -> dict[Path, int]:
        """The numbers of the pictures by their resolved paths."""
        return {path.resolve(): number for number, path in enumerate(self.paths)}


@dataclass(frozen=True, slots=True)
class Judged:
    """A dataset's photos with what was found for each by embedding and by each channel's votes."""

    dataset: AnsweredQueries
    features: Features
    by_embedding: tuple[Ranking, ...]
    by_votes: Mapping[Channel, tuple[Ranking, ...]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """An evaluation with all that it was made of."""

    evaluation: Evaluation
    gallery: Gallery
    judged: Mapping[str, Judged]


def read_datasets(folders: Sequence[Path]) -> dict[str, AnsweredQueries]:
    """Datasets by the names of their folders. Raises DatasetError, also for two of one name."""
    datasets: dict[str, AnsweredQueries] = {}
    for folder in folders:
        name = Path(os.path.abspath(folder)).name
        if name in datasets:
            raise DatasetError([f"{folder}: another dataset is called '{name}' as well"])
        datasets[name] = read_dataset(folder)
    return datasets


def gallery_of(
    datasets: Mapping[str, AnsweredQueries], distractors: Sequence[Path]
) -> tuple[Path, ...]:
    """The references of the datasets and the distractors, each file once."""
    pictures = (*own_references(datasets), *find_pictures(distractors))
    return tuple({path.resolve(): path for path in pictures}.values())


def evaluate(
    source: Source, datasets: Mapping[str, AnsweredQueries], distractors: Sequence[Path]
) -> Outcome:
    """Ranks the gallery for every photo. Raises what the source raises, and DatasetError."""
    model = source()
    paths = gallery_of(datasets, distractors)
    gallery = Gallery(paths, extract(source, paths, "references", as_references=True))
    if model.bundle is not None:
        for channel, local in gallery.features.local.items():
            gallery.kinds[channel] = model.bundle.extractors[channel].name
            gallery.votes[channel] = _index(model.bundle, channel, local)
    judged = {
        name: _judge(gallery, each, extract(source, [pair.query for pair in each.pairs], name))
        for name, each in datasets.items()
    }
    report = Evaluation(
        model=model.embedder.version,
        gallery=len(paths),
        milliseconds=dict(next(iter(judged.values())).features.milliseconds),
        datasets={name: _scores(each, gallery) for name, each in judged.items()},
    )
    return Outcome(report, gallery, judged)


def extract(
    source: Source, paths: Sequence[Path], what: str, *, as_references: bool = False
) -> Features:
    """The features of pictures, looked at in as many processes as there are cores."""
    cores = len(os.sched_getaffinity(0))
    start = (source, as_references)
    with ProcessPoolExecutor(cores, get_context("spawn"), _enter_process, start) as processes:
        looked = processes.map(_look, paths, chunksize=8)
        found = list(track(looked, f"Looking at {what}", total=len(paths)))
    channels = {name: [each.local[name] for each in found] for name in found[0].local}
    milliseconds = {
        name: 1000 * median(each.seconds[name] for each in found) for name in found[0].seconds
    }
    return Features(np.concatenate([each.embedding for each in found]), channels, milliseconds)


@dataclass(frozen=True, slots=True)
class _Looked:
    embedding: Floats
    local: dict[Channel, LocalFeatures]
    seconds: dict[str, float]


# What a process looks at pictures with.
_here: list[tuple[Embedder, FeatureExtractor | None, bool]] = []


def _enter_process(source: Source, as_references: bool) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    model = source()
    extractor = FeatureExtractor(model.bundle) if model.bundle else None
    _here[:] = [(model.embedder, extractor, as_references)]


def _look(path: Path) -> _Looked:
    picture = read_picture(path)
    embedder, extractor, as_reference = _here[0]
    start = time.perf_counter()
    embed = embedder.embed_references if as_reference else embedder.embed
    embedding = embed([picture]).vectors
    seconds = {"embedding": time.perf_counter() - start}
    if extractor is None:
        return _Looked(embedding, {}, seconds)
    local = {}
    for channel in Channel:
        start = time.perf_counter()
        keypoints = extractor.reference_keypoints if as_reference else extractor.query
        local[channel] = keypoints(picture, channel)
        seconds[channel.value] = time.perf_counter() - start
    return _Looked(embedding, local, seconds)


def _index(bundle: Bundle, channel: Channel, local: Sequence[LocalFeatures]) -> DescriptorIndex:
    index = DescriptorIndex(channel, bundle.codebooks[channel].quantizers())
    for first in range(0, len(local), INDEX_PART):
        part = local[first : first + INDEX_PART]
        ends = np.cumsum([len(each) for each in part])
        rows = np.arange(first, first + len(part))
        descriptors = np.concatenate([each.descriptors for each in part])
        index.add(descriptor_ids(rows, ends), descriptors)
    return index


def _judge(gallery: Gallery, dataset: AnsweredQueries, photos: Features) -> Judged:
    numbers = gallery.numbers()
    answers = [tuple(numbers[path.resolve()] for path in pair.references) for pair in dataset.pairs]
    by_votes = {
        channel: tuple(
            _by_votes(index, local, own)
            for local, own in zip(photos.local[channel], answers, strict=True)
        )
        for channel, index in gallery.votes.items()
    }
    nearest = rankings(photos.embeddings, gallery.features.embeddings, answers)
    return Judged(dataset, photos, nearest, by_votes)


def rankings(
    photos: Floats, gallery: Floats, answers: Sequence[tuple[int, ...]]
) -> tuple[Ranking, ...]:
    """The nearest of the gallery's unit vectors [n, d] for each photo's, [m, d]."""
    similarity = photos @ gallery.T
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :LISTED]
    return tuple(
        Ranking(found, row[found], own)
        for found, row, own in zip(nearest, similarity, answers, strict=True)
    )


def _by_votes(index: DescriptorIndex, local: LocalFeatures, own: tuple[int, ...]) -> Ranking:
    ranked = vote(*index.search(local.descriptors)).ranking(LISTED) if len(local) else []
    images = np.array([image for image, _ in ranked], np.int64)
    return Ranking(images, np.array([share for _, share in ranked], np.float32), own)


def _scores(judged: Judged, gallery: Gallery) -> DatasetScores:
    by_channel = {
        gallery.kinds[channel]: recall_at(each) for channel, each in judged.by_votes.items()
    }
    finest = list(by_channel.values())[-1] if by_channel else None
    answered = sum(bool(each.answers) for each in judged.by_embedding)
    return DatasetScores(
        queries=answered,
        unanswered=len(judged.by_embedding) - answered,
        recall=recall_at(judged.by_embedding),
        votes_recall=finest,
        micro_ap=micro_ap(judged.by_embedding),
        recall_at_p90=recall_at_precision(judged.by_embedding),
        votes_by_channel=by_channel,
        by_dimension=_by_dimension(judged, gallery),
        by_folder=_by_folder(judged),
    )


def _by_dimension(judged: Judged, gallery: Gallery) -> dict[str, float]:
    """Recall@1 with so many principal components of the gallery's embeddings."""
    vectors = gallery.features.embeddings
    _, axes = np.linalg.eigh(np.cov(vectors, rowvar=False))
    answers = [each.answers for each in judged.by_embedding]
    found = {}
    for dimension in (size for size in DIMENSIONS if size <= vectors.shape[1]):
        basis = axes[:, ::-1][:, :dimension].astype(np.float32)
        small = [_unit(each @ basis) for each in (judged.features.embeddings, vectors)]
        found[str(dimension)] = recall_at(rankings(small[0], small[1], answers))["1"]
    return found


def _unit(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)
    return np.asarray(vectors / lengths, np.float32)


def _by_folder(judged: Judged) -> dict[str, dict[str, float]]:
    """Recall of the photos of each folder: phones, occasions, domains."""
    folders: defaultdict[str, list[Ranking]] = defaultdict(list)
    for pair, ranking in zip(judged.dataset.pairs, judged.by_embedding, strict=True):
        folders[pair.query.parent.name].append(ranking)
    answered = {name: each for name, each in folders.items() if any(one.answers for one in each)}
    return {name: recall_at(each) for name, each in sorted(answered.items())}
