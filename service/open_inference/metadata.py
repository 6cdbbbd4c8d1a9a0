"""What the protocol says of the server and the model, and which model a request means."""

from typing import Literal

from pydantic import BaseModel, Field

from models.bundle import Manifest
from service.errors import UnknownModel
from service.open_inference.images import IMAGE, IMAGE_BYTES
from service.open_inference.outputs import outputs_of

EXTENSIONS = ("binary_tensor_data",)


class ServerLive(BaseModel):
    """The process works."""

    live: Literal[True] = True


class ServerReady(ServerLive):
    """The server accepts requests."""

    ready: Literal[True] = True


class ModelReady(BaseModel):
    """The model accepts requests."""

    name: str = Field(examples=["ham10000-ensemble"])
    ready: Literal[True] = True


class ServerMetadata(BaseModel):
    """The server. ``version`` is that of the API."""

    name: Literal["dermaserve"] = "dermaserve"
    version: str = Field(examples=["1.5.0"])
    extensions: list[str] = Field(examples=[list(EXTENSIONS)])


class TensorMetadata(BaseModel):
    """An input or an output."""

    name: str = Field(examples=["image_bytes"])
    datatype: str = Field(examples=["BYTES"])
    shape: list[int] = Field(description="-1 stands for any size.", examples=[[-1]])


class ModelMetadata(BaseModel):
    """The model. A request has one of the inputs."""

    name: str = Field(examples=["ham10000-ensemble"])
    versions: list[str] = Field(examples=[["1.3.0"]])
    platform: Literal["onnxruntime_onnx"] = "onnxruntime_onnx"
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


def model_metadata(manifest: Manifest) -> ModelMetadata:
    """Describe the model of ``manifest``."""
    channels = manifest.input.channels
    return ModelMetadata(
        name=manifest.name,
        versions=[manifest.version],
        inputs=[
            TensorMetadata(name=IMAGE, datatype="UINT8", shape=[-1, -1, -1, channels]),
            TensorMetadata(name=IMAGE_BYTES, datatype="BYTES", shape=[-1]),
        ],
        outputs=[
            TensorMetadata(name=output.name, datatype=output.datatype, shape=[-1, *output.shape])
            for output in outputs_of(manifest).values()
        ],
    )


def check_model(manifest: Manifest, name: str, version: str | None = None) -> None:
    """Check that a request means the model of ``manifest``. ``version`` None or empty stands for any.

    Raises:
        UnknownModel: it means another.
    """
    if name != manifest.name or version not in (None, "", manifest.version):
        raise UnknownModel(f"This server has only {manifest.name}, version {manifest.version}.")
