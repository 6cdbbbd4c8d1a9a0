"""One request for images, from its admission to what is said of them."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

from starlette.requests import Request

from models.errors import DermaserveError
from service.admission.admission import Reservation
from service.admission.client import Client
from service.api.upload import Upload, UploadLimits, read_image, read_images
from service.errors import DeadlinePassed, InvalidRequest, NoMemory, kind_of
from service.inference.classifier import Classification, Classifier
from service.inference.overlay import Overlay
from service.lifecycle import Runtime
from service.observability.request_record import LoggedPrediction, RequestRecord, Stage
from service.system.threads import cancelled_by_disconnect


@asynccontextmanager
async def admit(
    runtime: Runtime, request: Request, client: Client, *, gradcam_class: str | None = None
) -> AsyncIterator["Job"]:
    """Admit a request. The block ends at the request's deadline, whatever it waits for.

    Args:
        runtime: the server's.
        request: its headers have arrived; its body may not.
        client: that it is from.
        gradcam_class: code of the class to explain, as the client sent it.

    Raises:
        NotReady, Overloaded, RateLimited: it is not admitted.
        InvalidRequest: the model has no class ``gradcam_class``.
        DeadlinePassed, NoMemory: the block was ended for this.
    """
    deadline = float(request.state.started) + runtime.settings.request_timeout
    try:
        async with asyncio.timeout(deadline - time.monotonic()) as timer, AsyncExitStack() as stack:
            memory = stack.enter_context(runtime.admission.admit(client))
            model = stack.enter_context(runtime.use())
            if gradcam_class is not None and gradcam_class not in model.manifest.codes:
                raise InvalidRequest(
                    f"gradcam_class: expected one of {', '.join(model.manifest.codes)}.",
                    parameter="gradcam_class",
                )
            yield Job(runtime, request, client, model, memory, stack, deadline)
    except TimeoutError as error:
        if not timer.expired():
            raise  # not of this clock: the system's ETIMEDOUT
        raise DeadlinePassed("The deadline passed before the answer was computed.") from error
    except MemoryError as error:  # while receiving; the classifier answers for its own
        runtime.metrics.refused("memory")
        raise NoMemory from error


class Job:
    """An admitted request.

    Attributes:
        model: held for this request, through any reload.
        record: of the request.
    """

    def __init__(
        self,
        runtime: Runtime,
        request: Request,
        client: Client,
        model: Classifier,
        memory: Reservation,
        stack: AsyncExitStack,
        deadline: float,
    ) -> None:
        self.model = model
        self.record: RequestRecord = request.state.record
        self.record.model = model.identity.label
        self._admission = runtime.admission
        self._metrics = runtime.metrics
        self._request = request
        self._client = client
        self._memory = memory
        self._stack = stack
        self._deadline = deadline
        settings = runtime.settings
        self._limits = UploadLimits(settings.max_body_bytes, settings.min_upload_rate, settings.upload_grace)

    async def receive_image(self) -> Upload:
        """The one image of the body. From then on the job holds a place, and ends when its client goes away.

        Raises:
            RequestError, Overloaded, ClientDisconnected: see ``service.api.upload.read_image``.
        """
        with self._receiving():
            image = await read_image(self._request, self._limits, self._memory)
        await self._begin(1)
        return image

    async def receive_images(self) -> list[Upload]:
        """The images of a batch; see ``receive_image``.

        Raises:
            RateLimited: they are more than the client may send.
        """
        with self._receiving():
            images = await read_images(self._request, self._limits, self._memory)
        self._client.charge_batch(len(images))
        await self._begin(len(images))
        return images

    async def classify(self, image: Upload) -> Classification:
        """Decode and classify one image. Its bytes are free once it is decoded.

        Raises:
            ImageError, NotReady, NoMemory, DeadlinePassed, InferenceFailed: it gets no answer.
        """
        with self._counted():
            with self.record.stage("decode"):
                decoded = await self.model.prepare(image.data, deadline=self._deadline)
            self._memory.release(len(image.data))
            image.data = b""
            with self.record.stage("queue") as queue:
                found = await self.model.classify(decoded, deadline=self._deadline)
                queue.end = found.started
        self.record.stages.append(Stage("inference", found.started, found.ended))
        decision, codes = found.decision, tuple(warning.code for warning in found.warnings)
        self.record.verdicts.append(
            LoggedPrediction(decision.label, decision.flag, decision.malignancy, codes)
        )
        return found

    async def explain(self, found: Classification, code: str) -> Overlay:
        """Draw the overlay for the class ``code``.

        Raises:
            NoMemory: there is none for it.
        """
        with self.record.stage("overlay"), self._counted():
            return await self.model.overlay(found, code)

    @contextmanager
    def _receiving(self) -> Iterator[None]:
        with self.record.stage("receive"), self._metrics.receiving.time():
            yield

    async def _begin(self, images: int) -> None:
        """Begin the work on a body that has arrived."""
        self.record.images = images
        self._stack.enter_context(self._admission.hold_place())
        await self._stack.enter_async_context(cancelled_by_disconnect(self._request.receive))

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count an image that gets a problem in place of an answer."""
        try:
            yield
        except DermaserveError as error:
            self._metrics.image_failed(kind_of(error))
            raise
