"""The methods of both clients about model versions and rollouts; they need an operator's key.

A model is given as its version or its resource name, a rollout as its id or its resource name, and
a publisher likewise.
"""

# ruff: noqa: ASYNC109 (the timeout is sent to the server, which a scope around the call is not)

import asyncio
from collections.abc import Collection
from contextlib import AbstractContextManager
from os import PathLike
from typing import TypeVar

import grpc

from imagelink import _model_calls as calls
from imagelink._bundles import upload_bundle
from imagelink._calls import Call
from imagelink._channel import Keyed
from imagelink.models import Model, Rollout, RolloutPreview

T = TypeVar("T")


class ModelClient(Keyed):
    """The methods that wait for the answer."""

    _channel: grpc.Channel

    def register_model(self, folder: str | PathLike[str], *, timeout: float | None = None) -> Model:
        """Registers a model version; one that is registered already is answered as it is.

        Args:
            folder: A published bundle, with ``manifest.json`` and ``model.safetensors``.
            timeout: Seconds that the whole may take; without end by default.
        """
        options = {"timeout": timeout, "metadata": self._metadata}
        return upload_bundle(self._channel, folder, **options)

    def get_model(self, model: str, *, timeout: float | None = None) -> Model:
        """Gets a model version."""
        return self._run(calls.get_model(model), timeout)

    def list_models(self, *, timeout: float | None = None) -> list[Model]:
        """Lists the model versions, the newest first."""
        return self._run(calls.list_models(), timeout)

    def delete_model(self, model: str, *, timeout: float | None = None) -> None:
        """Deletes a model version that serves nobody, with all features that it made."""
        self._run(calls.delete_model(model), timeout)

    def start_rollout(
        self,
        model: str,
        *,
        max_images_per_second: float = 0.0,
        shadow_share: float = 0.0,
        timeout: float | None = None,
    ) -> Rollout:
        """Begins to bring a model version into service; nobody is switched to it yet.

        Args:
            model: The new version.
            max_images_per_second: The most that the backfill takes on; 0 for no limit.
            shadow_share: The share of live scans, 0 to 1, that the new version answers too.
            timeout: Seconds that the call may take.
        """
        call = calls.start_rollout(model, max_images_per_second, shadow_share)
        return self._run(call, timeout)

    def get_rollout(self, rollout: str, *, timeout: float | None = None) -> Rollout:
        """Gets a rollout: its state, its progress, what live scans say."""
        return self._run(calls.get_rollout(rollout), timeout)

    def list_rollouts(self, *, timeout: float | None = None) -> list[Rollout]:
        """Lists the rollouts, the latest first."""
        return self._run(calls.list_rollouts(), timeout)

    def update_rollout(
        self,
        rollout: str,
        *,
        paused: bool | None = None,
        max_images_per_second: float | None = None,
        shadow_share: float | None = None,
        timeout: float | None = None,
    ) -> Rollout:
        """Changes what is given of how a rollout goes on."""
        call = calls.update_rollout(rollout, paused, max_images_per_second, shadow_share)
        return self._run(call, timeout)

    def preview_rollout(self, rollout: str, *, timeout: float | None = None) -> RolloutPreview:
        """Answers how the new version compares with the former: which scans would change."""
        return self._run(calls.preview_rollout(rollout), timeout)

    def activate_rollout(
        self,
        rollout: str,
        *,
        publishers: Collection[str] | None = None,
        percent: float | None = None,
        force: bool = False,
        timeout: float | None = None,
    ) -> Rollout:
        """Switches publishers to the new version: all, or those that are given.

        Args:
            rollout: A rollout that is ready, or has switched some already.
            publishers: Only these, beside those switched already.
            percent: Only this share of all publishers, above 0 and at most 100 %.
            force: Switch them although the comparison failed.
            timeout: Seconds that the call may take.
        """
        call = calls.activate_rollout(rollout, publishers, percent, force)
        return self._run(call, timeout)

    def rollback_rollout(self, rollout: str, *, timeout: float | None = None) -> Rollout:
        """Switches all publishers back; the rollout is ready again."""
        return self._run(calls.rollback_rollout(rollout), timeout)

    def end_rollout(self, rollout: str, *, timeout: float | None = None) -> Rollout:
        """Ends a rollout: the version that serves nobody any more loses its features."""
        return self._run(calls.end_rollout(rollout), timeout)

    def _run(self, call: Call[T], timeout: float | None) -> T:
        raise NotImplementedError


class AsyncModelClient(Keyed):
    """The methods that are awaited."""

    async def register_model(
        self, folder: str | PathLike[str], *, timeout: float | None = None
    ) -> Model:
        """Registers a model version; one that is registered already is answered as it is."""
        options = {"timeout": timeout, "metadata": self._metadata}
        with self._blocking_channel() as channel:
            return await asyncio.to_thread(upload_bundle, channel, folder, **options)

    async def get_model(self, model: str, *, timeout: float | None = None) -> Model:
        """Gets a model version."""
        return await self._run(calls.get_model(model), timeout)

    async def list_models(self, *, timeout: float | None = None) -> list[Model]:
        """Lists the model versions, the newest first."""
        return await self._run(calls.list_models(), timeout)

    async def delete_model(self, model: str, *, timeout: float | None = None) -> None:
        """Deletes a model version that serves nobody, with all features that it made."""
        await self._run(calls.delete_model(model), timeout)

    async def start_rollout(
        self,
        model: str,
        *,
        max_images_per_second: float = 0.0,
        shadow_share: float = 0.0,
        timeout: float | None = None,
    ) -> Rollout:
        """Begins to bring a model version into service; nobody is switched to it yet."""
        call = calls.start_rollout(model, max_images_per_second, shadow_share)
        return await self._run(call, timeout)

    async def get_rollout(self, rollout: str, *, timeout: float | None = None) -> Rollout:
        """Gets a rollout: its state, its progress, what live scans say."""
        return await self._run(calls.get_rollout(rollout), timeout)

    async def list_rollouts(self, *, timeout: float | None = None) -> list[Rollout]:
        """Lists the rollouts, the latest first."""
        return await self._run(calls.list_rollouts(), timeout)

    async def update_rollout(
        self,
        rollout: str,
        *,
        paused: bool | None = None,
        max_images_per_second: float | None = None,
        shadow_share: float | None = None,
        timeout: float | None = None,
    ) -> Rollout:
        """Changes what is given of how a rollout goes on."""
        call = calls.update_rollout(rollout, paused, max_images_per_second, shadow_share)
        return await self._run(call, timeout)

    async def preview_rollout(
        self, rollout: str, *, timeout: float | None = None
    ) -> RolloutPreview:
        """Answers how the new version compares with the former: which scans would change."""
        return await self._run(calls.preview_rollout(rollout), timeout)

    async def activate_rollout(
        self,
        rollout: str,
        *,
        publishers: Collection[str] | None = None,
        percent: float | None = None,
        force: bool = False,
        timeout: float | None = None,
    ) -> Rollout:
        """Switches publishers to the new version: all, or those that are given."""
        call = calls.activate_rollout(rollout, publishers, percent, force)
        return await self._run(call, timeout)

    async def rollback_rollout(self, rollout: str, *, timeout: float | None = None) -> Rollout:
        """Switches all publishers back; the rollout is ready again."""
        return await self._run(calls.rollback_rollout(rollout), timeout)

    async def end_rollout(self, rollout: str, *, timeout: float | None = None) -> Rollout:
        """Ends a rollout: the version that serves nobody any more loses its features."""
        return await self._run(calls.end_rollout(rollout), timeout)

    async def _run(self, call: Call[T], timeout: float | None) -> T:
        raise NotImplementedError

    def _blocking_channel(self) -> AbstractContextManager[grpc.Channel]:
        raise NotImplementedError
