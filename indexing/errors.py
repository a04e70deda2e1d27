"""The domain's errors. Each class docstring is the message to the user.

``server.status`` gives each its gRPC status and reason; nothing here knows of gRPC.
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar


class ImageLinkError(Exception):
    """Base of every error that a caller can cause or should handle."""

    field: ClassVar[str | None] = None

    def __init__(self, **details: object) -> None:
        self.details = {name: str(value) for name, value in details.items()}
        super().__init__((type(self).__doc__ or "").format(**details))

    def __reduce__(self) -> tuple[Callable[[], "ImageLinkError"], tuple[()]]:
        # Exceptions are pickled by their positional arguments, of which these have none.
        return partial(type(self), **self.details), ()


class ApiKeyMissing(ImageLinkError):
    """The call carries no API key: send the metadata 'authorization: Bearer KEY'."""


class ApiKeyInvalid(ImageLinkError):
    """The API key is malformed, unknown or revoked: use a valid one."""


class ApiKeyExpired(ImageLinkError):
    """API key '{api_key}' expired at {expire_time}: ask the operator for a new one."""


class RoleNotAllowed(ImageLinkError):
    """A key of role '{role}' may not call this method: use one of role {needed}."""


class PublisherNotAllowed(ImageLinkError):
    """The API key does not belong to publisher '{publisher}': use a key of that publisher."""


class PublisherSuspended(ImageLinkError):
    """Publisher '{publisher}' is suspended: ask the operator to resume it."""


class PublisherNotFound(ImageLinkError):
    """There is no publisher '{publisher}': create it first, or correct the name."""


class ApiKeyNotFound(ImageLinkError):
    """Publisher '{publisher}' has no API key '{api_key}': list its keys to see which exist."""


class ReferenceNotFound(ImageLinkError):
    """Publisher '{publisher}' has no reference '{reference}': list them to see which exist."""


class ImageNotFound(ImageLinkError):
    """Reference '{reference}' has no image '{image}': get the reference to see which it has."""


class ErasureReceiptNotFound(ImageLinkError):
    """Publisher '{publisher}' has no erasure receipt '{receipt}': give the name that the deletion answered."""


class ShardNotFound(ImageLinkError):
    """There is no shard '{shard}': list the shards to see which exist."""


class ShardNotActive(ImageLinkError):
    """Shard '{shard}' is {state} and takes no publisher: undrain it, or choose an active one."""


class LastShard(ImageLinkError):
    """Shard '{shard}' is the last active one: add another first."""


class ShardHasPins(ImageLinkError):
    """Shard '{shard}' has pinned publishers ({publishers}): unpin them, or pin them elsewhere."""


class PublisherAlreadyExists(ImageLinkError):
    """Publisher '{publisher}' exists already: choose another id."""


class ReferenceAlreadyExists(ImageLinkError):
    """Reference '{reference}' exists already: choose another id, or update or delete it."""


class TooManyImages(ImageLinkError):
    """Reference '{reference}' has {limit} images, the most that one may have: remove one first."""


class LastImage(ImageLinkError):
    """Reference '{reference}' has no other image: add another one first, or delete the reference."""


class FieldInvalid(ImageLinkError):
    """Field '{field}' is invalid: {problem}"""

    def __init__(self, *, field: str, problem: str) -> None:
        super().__init__(field=field, problem=problem)


class RequestIdReused(ImageLinkError):
    """The request_id '{request_id}' was used with other content: send a new one."""

    field = "request_id"


class PageTokenInvalid(ImageLinkError):
    """The page token was not issued by this method for this filter: start again without one."""

    field = "page_token"


class ImageInvalid(ImageLinkError):
    """The image cannot be read: {problem} Send a complete JPEG, PNG or WebP file."""

    field = "image"


class ImageTooLarge(ImageLinkError):
    """The image has {size} bytes, at most {limit} are allowed: scale it down or compress it more."""

    field = "image"


class ImageTooManyPixels(ImageLinkError):
    """The image has {width} x {height} pixels, at most 40 million are allowed: scale it down."""

    field = "image"


class ImageTooSmall(ImageLinkError):
    """The image has {width} x {height} pixels: a reference needs at least {limit} on each side."""

    field = "image"


class ImageTooPlain(ImageLinkError):
    """The image has too little detail to be recognised: use one with more texture or text."""

    field = "image"


class ArchiveInvalid(ImageLinkError):
    """The archive cannot be imported: {problem}"""

    field = "chunk"


class ArchiveDamaged(ImageLinkError):
    """The archive is damaged at {member}: {problem} Copy it once more, or export it again."""

    field = "chunk"


class ImageFileDamaged(ImageLinkError):
    """The stored file of image '{image}' of reference '{reference}' is lost or damaged: delete it and register it again."""


class GalleryVersionNotReached(ImageLinkError):
    """The gallery is at version {version}, not yet at {wanted}: scan again in a moment."""


class DatabaseUnavailable(ImageLinkError):
    """The database does not answer: try again in a moment."""


class ShardUnavailable(ImageLinkError):
    """Shard '{shard}' does not answer: try again in a moment."""


class Overloaded(ImageLinkError):
    """More requests wait than the server can take: try again in a moment."""


class ScanQuotaExceeded(ImageLinkError):
    """Publisher '{publisher}' scans more than its quota of {limit} a second: try again in {retry_after} s, or ask the operator for more."""


class ReferenceQuotaExceeded(ImageLinkError):
    """The quota of publisher '{publisher}', {limit} references, leaves no room for another: delete some, or ask the operator for more."""


class BundleInvalid(ImageLinkError):
    """The model bundle {path} cannot be used: {problem}"""

    field = "chunk"


class ModelNotFound(ImageLinkError):
    """There is no model version '{model}': list the models to see which are registered."""


class ModelInUse(ImageLinkError):
    """Model version '{model}' cannot be deleted: {problem}"""


class ModelTooLarge(ImageLinkError):
    """With this model version a process needs {needed} MB for models, more than the {limit} of model_memory_mb: end the rollout under way, if there is one, or raise that."""


class ModelUnavailable(ImageLinkError):
    """Model version '{model}' cannot serve now: try again in a moment."""


class FeaturesOutdated(ImageLinkError):
    """Images need features of the model versions {versions} by now."""


class RolloutNotFound(ImageLinkError):
    """There is no rollout '{rollout}': list the rollouts to see which there are."""


class RolloutUnderWay(ImageLinkError):
    """Rollout '{rollout}' of model version '{model}' is under way: end it first."""


class RolloutStateInvalid(ImageLinkError):
    """Rollout '{rollout}' is {state}: {problem}"""


class GateFailed(ImageLinkError):
    """The new version is not good enough: {problems} Preview the rollout to see what would change, or force it."""


class DataDirInUse(ImageLinkError):
    """Another server runs on the data in {path}: stop it, or give this one its own data_dir."""


class DatabaseNewer(ImageLinkError):
    """The database has migrations that this version does not know ({names}): run the version of ImageLink that made them, or a later one."""


class DatabaseOutdated(ImageLinkError):
    """The database lacks the migrations {names}: run `python -m server migrate` first."""


class DatabaseMissing(ImageLinkError):
    """There is no database in {path}: name the right data_dir, or a database_url."""


class DatabaseUrlInvalid(ImageLinkError):
    """The database's URL cannot be read: write it as postgresql://USER:PASSWORD@HOST/DATABASE."""


class DatabaseToolFailed(ImageLinkError):
    """{tool} failed: {problem}"""


class BackupInvalid(ImageLinkError):
    """There is no complete backup at {url}: {problem}"""


class BackupDamaged(ImageLinkError):
    """The backup is damaged at {file}: {problem} Nothing was restored from it: take another one."""


class BackupNewer(ImageLinkError):
    """The backup has migrations that this version does not know ({names}): restore it with the version of ImageLink that made it, or a later one."""


class TargetNotEmpty(ImageLinkError):
    """{target} is not empty: name an empty one, as nothing is ever written over."""


class StoreFailed(ImageLinkError):
    """A blob store or a folder failed: {problem}"""


class ModelVersionMismatch(ImageLinkError):
    """Embeddings of model {got} cannot be compared with those of model {expected}."""


class FeaturesMissing(ImageLinkError):
    """{images} registered images have no features of model {version}: start with the model that they were registered with."""
