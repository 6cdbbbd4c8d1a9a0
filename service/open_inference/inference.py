"""An inference request of the protocol, from the body to the results. REST and gRPC share it."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from starlette.requests import Request

from models.bundle import Manifest
from service.admission.admission import Reservation
from service.api.job import Failed, Job
from service.api.metadata import parse_batch
from service.api.upload import Upload, UploadLimits, media_type_of, read_body
from service.inference.classifier import Classification
from service.open_inference.images import image_files
from service.open_inference.outputs import Output, Result, outputs_of, results_of, wanted_outputs
from service.open_inference.request import InferRequest, Tensor, malformed
from service.system.threads import in_thread

_PARSING = asyncio.Lock()
_MAX_METADATA = 16_384
_UNSUPPORTED = {"classification", "shared_memory_region"}


class Inference:
    """Receives one request and classifies its images.

    Attributes:
        request: set once the body is received.
        outputs: those that the client asked for.
    """

    request: InferRequest
    outputs: Sequence[Output]

    def __init__(
        self, manifest: Manifest, parse: Callable[[bytes], tuple[InferRequest, list[Tensor]]]
    ) -> None:
        """Prepare to receive a request. ``parse`` reads its body."""
        self._manifest = manifest
        self._parse = parse

    async def run(self, job: Job) -> list[Result] | Failed:
        """Receive the body and return the results of all images, or the problem of one of them.

        The protocol has no place for a problem beside results. A failure of the service comes before an image
        that cannot be used, because the same request may succeed later.

        Raises:
            InvalidRequest, BodyTooLarge: the body is malformed.
            DermaserveError: see ``Job``.
        """
        images = await job.receive_images(self._read)
        if len(images) == 1:
            return results_of(self.outputs, [await self._values(await job.classify(images[0]))])
        found = await job.classify_each(images, self._values)
        rows = [row for row in found if not isinstance(row, Failed)]
        if len(rows) == len(found):
            return results_of(self.outputs, rows)
        failures = [(index, row) for index, row in enumerate(found) if isinstance(row, Failed)]
        index, failed = next((each for each in failures if each[1].problem.status >= 500), failures[0])
        detail = f"Image {index} of the batch: {failed.problem.detail}"
        return failed._replace(problem=failed.problem.model_copy(update={"detail": detail}))

    async def _read(self, request: Request, limits: UploadLimits, reservation: Reservation) -> list[Upload]:
        media_type_of(request)
        body = await read_body(request, limits, reservation)
        # Some bodies take half a second to parse, which the event loop must not. One at a time is parsed.
        async with _PARSING:
            images = await asyncio.wrap_future(in_thread(self._parsed, body))
        held = sum(len(image.data) for image in images)
        reservation.grow_to(held)
        reservation.release(reservation.size - held)
        return images

    def _parsed(self, body: bytes) -> list[Upload]:
        self.request, tensors = self._parse(body)
        images = self._images(tensors)
        self.request.inputs = []  # the text of the images, which nothing needs now
        return images

    def _images(self, tensors: Sequence[Tensor]) -> list[Upload]:
        for output in self.request.outputs:
            if found := _UNSUPPORTED & output.parameters.keys():
                raise malformed(f"outputs: {', '.join(sorted(found))} is not supported.")
        names = [output.name for output in self.request.outputs]
        self.outputs = wanted_outputs(outputs_of(self._manifest), names)
        images = [Upload(data) for data in image_files(tensors, self._manifest.input.channels)]
        metadata = self.request.parameters.get("metadata")
        if metadata is not None:
            if not isinstance(metadata, str) or len(metadata) > _MAX_METADATA:
                raise malformed(f"metadata: expected a text of at most {_MAX_METADATA:,} characters.")
            for image, known in zip(images, parse_batch(metadata.encode(), len(images)), strict=True):
                image.metadata = known
        return images

    async def _values(self, found: Classification) -> list[Any]:
        return [output.value(found) for output in self.outputs]
