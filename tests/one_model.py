"""A process that has one model version, which serves everybody."""

from indexing.bundle import Bundle
from indexing.features import FeatureExtractor
from indexing.recognition import Recogniser
from server.models import Model


class OneModel:
    """What ``server.models.Models`` gives, without a database that could change it."""

    def __init__(self, bundle: Bundle, features: FeatureExtractor | None = None) -> None:
        self.model = Model(bundle, features or FeatureExtractor(bundle), Recogniser(bundle))

    def version(self, publisher: str) -> str:
        return self.model.version

    async def get(self, version: str) -> Model:
        assert version == self.model.version
        return self.model

    async def serving(self, publisher: str) -> Model:
        return self.model

    async def written(self) -> list[Model]:
        return [self.model]

    async def refresh(self) -> None:
        raise AssertionError("nothing changes here")
