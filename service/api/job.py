"""An admitted request for images: it receives the body, classifies the images and draws overlays."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import NamedTuple, TypeAlias, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from models.bundle import Metadata
from models.errors import DermaserveError
from service.admission.admission import Reservation
from service.admission.client import Client
from service.api.metadata import merge
from service.api.upload import Upload, UploadLimits, read_image, read_images
from service.errors import DeadlinePassed, InvalidRequest, NoMemory, Unavailable, kind_of
from service.http.problems import Problem, answer_of, problem_of
from service.inference.classifier import Classification, Classifier
from service.inference.overlay import Overlay
from service.inference.png import largest_png
from service.inference.warnings import OVERLAY_OMITTED
from service.lifecycle import Runtime
from service.observability.request_record import LoggedPrediction, RequestRecord, Stage
from service.system.fair_queue import DEFAULT_RANK, Rank
from service.system.threads import cancelled_by_disconnect

T = TypeVar("T")

BatchReader: TypeAlias = Callable[[Request, UploadLimits, Reservation], Awaitable[list[Upload]]]
"""Receives a body and returns its images; see ``service.api.upload.read_images``."""


class Failed(NamedTuple):
    """The problem of one image of a batch. ``retry_after`` is in seconds; None if a retry does not help."""

    problem: Problem
    retry_after: int | None

    def response(self, record: RequestRecord) -> Response:
        """Return the problem as the response to the whole request."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return answer_of(self.problem, record, headers)


@asynccontextmanager
async def admit(
    runtime: Runtime, request: Request, client: Client, *, gradcam_class: str | None = None
) -> AsyncIterator["Job"]:
    """Admit a request, and cancel the block at the request's deadline.

    Args:
        runtime: of the server.
        request: its headers have arrived. Its body is read by the job.
        client: the authenticated client.
        gradcam_class: code of the class to explain, as the client sent it.

    Raises:
        NotReady, Overloaded, RateLimited: the request is not admitted.
        InvalidRequest: the model has no class ``gradcam_class``.
        DeadlinePassed: the deadline passed in the block.
        NoMemory: there is not enough memory for the body.
    """
    deadline = float(request.state.started) + runtime.settings.request_timeout
    try:
        async with asyncio.timeout(deadline - time.monotonic()) as timer, AsyncExitStack() as stack:
            reservation = stack.enter_context(runtime.admission.admit(client))
            model = stack.enter_context(runtime.use())
            if gradcam_class is not None and gradcam_class not in model.manifest.codes:
                raise InvalidRequest(
                    f"gradcam_class: expected one of {', '.join(model.manifest.codes)}.",
                    parameter="gradcam_class",
                )
            yield Job(runtime, request, client, model, reservation, stack, deadline)
    except TimeoutError as error:
        if not timer.expired():
            raise  # not this timer, but an ETIMEDOUT of the operating system
        raise DeadlinePassed("The deadline passed before the answer was computed.") from error
    except MemoryError as error:  # while receiving; the classifier raises NoMemory itself
        runtime.metrics.refused("memory")
        raise NoMemory from error


class Job:
    """An admitted request.

    Attributes:
        model: stays open until the job ends, even through a reload.
        record: of the request.
        rank: decides when its images are decoded and classified, among others that wait.
    """

    def __init__(
        self,
        runtime: Runtime,
        request: Request,
        client: Client,
        model: Classifier,
        reservation: Reservation,
        stack: AsyncExitStack,
        deadline: float,
    ) -> None:
        self.model = model
        self.record: RequestRecord = request.state.record
        self.record.model = model.identity.label
        self.rank: Rank = getattr(request.state, "rank", DEFAULT_RANK)
        self._admission = runtime.admission
        self._metrics = runtime.metrics
        self._request = request
        self._client = client
        self._reservation = reservation
        self._stack = stack
        self._deadline = deadline
        settings = runtime.settings
        # A body that arrives in one piece, as over gRPC, has no rate. The deadline limits it.
        min_rate = 0 if getattr(request.state, "whole", False) else settings.min_upload_rate
        self._limits = UploadLimits(settings.max_body_bytes, min_rate, settings.upload_grace)

    async def receive_image(self, query: Metadata) -> Upload:
        """Receive the body and return its image, with the metadata of the form and of the ``query``.

        From then on the job counts as a request in progress, and is cancelled when the client disconnects.

        Raises:
            RequestError, Overloaded, ClientDisconnected: see ``service.api.upload.read_image``.
        """
        with self._receive_stage():
            image = await read_image(self._request, self._limits, self._reservation)
            image.metadata = merge(query, image.metadata)
        await self._begin(1)
        return image

    async def receive_images(self, read: BatchReader = read_images) -> list[Upload]:
        """Receive the body with ``read`` and return the images of a batch; see ``receive_image``.

        Raises:
            RateLimited: the client's rate does not allow so many images.
        """
        with self._receive_stage():
            images = await read(self._request, self._limits, self._reservation)
        self._client.charge_batch(len(images))
        await self._begin(len(images))
        return images

    async def classify(self, image: Upload) -> Classification:
        """Decode and classify one image. ``image.data`` is emptied once the image is decoded.

        Raises:
            ImageError, NotReady, NoMemory, DeadlinePassed, InferenceFailed: see ``Classifier``.
        """
        with self._count_failures():
            with self.record.stage("decode"):
                decoded, quality = await self.model.decode(
                    image.data, rank=self.rank, deadline=self._deadline
                )
            self._reservation.release(len(image.data))
            image.data = b""
            with self.record.stage("queue") as queue:
                classification = await self.model.classify(
                    decoded, quality, image.metadata, rank=self.rank, deadline=self._deadline
                )
                queue.end = classification.started
        self.record.stages.append(Stage("inference", classification.started, classification.ended))
        decision, codes = classification.decision, tuple(warning.code for warning in classification.warnings)
        self.record.predictions.append(
            LoggedPrediction(decision.label, decision.flag, decision.malignancy, codes)
        )
        return classification

    async def classify_each(
        self, images: Sequence[Upload], result: Callable[[Classification], Awaitable[T]]
    ) -> list[T | Failed]:
        """Classify the images of a batch, and return the ``result`` of each, or its problem, in order.

        Batches must not fill the queue, so that single images wait behind few of theirs. One batch has at
        most as many images in progress as inference takes at a time. All batches together have a few more,
        and take turns.
        """
        limit = asyncio.Semaphore(self.model.max_images_in_inference)

        async def classify(index: int, image: Upload) -> T | Failed:
            async with limit, self.model.batch_images.place(self.rank):
                try:
                    if not image.data:
                        raise InvalidRequest(
                            "The part is empty. Expected an image.", pointer=f"#/files/{index}"
                        )
                    return await result(await self.classify(image))
                except DermaserveError as error:
                    image.data = b""
                    self.record.image_problems.append(kind_of(error).type)
                    # The error itself is not kept: its traceback would keep the image in memory.
                    wait = error.retry_after if isinstance(error, Unavailable) else None
                    return Failed(problem_of(error, self.record.request_id), wait)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(classify(index, image)) for index, image in enumerate(images)]
        return [task.result() for task in tasks]

    async def explain(self, classification: Classification, code: str) -> Overlay:
        """Draw the overlay of a ``classification`` for the class ``code``.

        Raises:
            NoMemory: there is not enough memory.
        """
        with self.record.stage("overlay"), self._count_failures():
            return await self.model.overlay(classification, code, rank=self.rank)

    async def explain_within(
        self, memory: Reservation, classification: Classification, code: str
    ) -> Overlay | None:
        """Draw an overlay as ``explain`` does, and add its bytes to ``memory``. Return None without room."""
        overlay, most = None, largest_png(*classification.pixels.shape[:2])
        if memory.add_result(most):
            with self.record.stage("overlay"), suppress(NoMemory):  # not an image that failed
                overlay = await self.model.overlay(classification, code, rank=self.rank)
            memory.release(most - (len(overlay.png) if overlay else 0))
        if overlay is None:
            self._metrics.warnings.labels(OVERLAY_OMITTED.code).inc()
        return overlay

    @contextmanager
    def _receive_stage(self) -> Iterator[None]:
        with self.record.stage("receive"), self._metrics.receiving.time():
            yield

    async def _begin(self, images: int) -> None:
        """Take a place among the requests in progress, and watch for a disconnect."""
        self.record.images = images
        self._stack.enter_context(self._admission.hold_place())
        await self._stack.enter_async_context(cancelled_by_disconnect(self._request.receive))

    @contextmanager
    def _count_failures(self) -> Iterator[None]:
        """Count an image that cannot be classified or explained."""
        try:
            yield
        except DermaserveError as error:
            self._metrics.image_failed(kind_of(error))
            raise
