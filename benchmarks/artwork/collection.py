"""Whole collections of pictures: what the demo's publishers register, and what nobody does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from benchmarks.artwork import abstracts, films, logos, magazines, paintings, posters
from benchmarks.artwork.brief import Brief, Recipe
from benchmarks.artwork.canvas import Picture
from benchmarks.artwork.palette import PALETTES

Kind = Literal["painting", "poster", "magazine", "logo"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_RECIPES: dict[Kind, tuple[Recipe, ...]] = {
    "painting": (*paintings.RECIPES, *abstracts.RECIPES, paintings.SECOND_SITTER),
    "poster": (*posters.RECIPES[:5], *films.RECIPES, *posters.RECIPES[5:]),
    "magazine": magazines.RECIPES,
    "logo": logos.RECIPES,
}
_REGISTERED: dict[str, dict[Kind, int]] = {
    "north-gallery": {"painting": 12},
    "city-press": {"poster": 7, "magazine": 4, "logo": 5},
}


@dataclass(frozen=True, eq=False)
class Artwork:
    """One picture, with a name that is unique in its collection and a title for people."""

    name: str
    title: str
    kind: Kind
    picture: Picture


def capacity(kind: Kind) -> int:
    """How many pictures of a kind there are that differ in composition."""
    return len(_orders(kind))


def draw_collection(kind: Kind, count: int, seed: int, start: int = 0) -> list[Artwork]:
    """Draws `count` pictures of a kind, from number `start` on; the same seed gives the same ones."""
    orders = _orders(kind)
    if start + count > len(orders):
        raise ValueError(f"There are {len(orders)} different pictures of kind {kind}, no more.")
    return [_draw(kind, index, seed) for index in range(start, start + count)]


def draw_publishers(seed: int) -> dict[str, list[Artwork]]:
    """What each of the demo's publishers registers, by the publisher's name."""
    return {
        publisher: [
            work for kind, count in parts.items() for work in draw_collection(kind, count, seed)
        ]
        for publisher, parts in _REGISTERED.items()
    }


def draw_strangers(seed: int) -> list[Artwork]:
    """Pictures in the same styles that no publisher registers: a scan of one must find nothing."""
    return [
        work
        for parts in _REGISTERED.values()
        for kind, count in parts.items()
        for work in draw_collection(kind, capacity(kind) - count, seed, start=count)
    ]


def _orders(kind: Kind) -> list[tuple[int, int]]:
    """The kind's pictures as (recipe, round): every recipe once before any of them again."""
    recipes = _RECIPES[kind]
    rounds = max(len(recipe.titles) for recipe in recipes)
    return [
        (index, turn)
        for turn in range(rounds)
        for index, recipe in enumerate(recipes)
        if turn < len(recipe.titles)
    ]


def _draw(kind: Kind, index: int, seed: int) -> Artwork:
    number, turn = _orders(kind)[index]
    recipe = _RECIPES[kind][number]
    rng = np.random.default_rng([seed, KINDS.index(kind), index])
    palette = PALETTES[recipe.palettes[turn % len(recipe.palettes)]]
    title = recipe.titles[turn]
    picture = recipe.draw(Brief(rng, palette, title))
    return Artwork(f"{kind}-{index + 1:02d}", title, kind, picture)
