"""Building blocks of the manifest: strict models, shares, metrics with intervals."""

import math
from collections.abc import Collection, Mapping
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Unit = Annotated[float, Field(ge=0.0, le=1.0)]
"""A share or probability, from 0 to 1."""

_SUM_TOLERANCE = 1e-3  # shares may be rounded to four digits


class Strict(BaseModel):
    """A model that rejects unknown fields, changes after loading, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Interval(Strict):
    """A metric with its 95 % bootstrap interval."""

    # The value may lie outside the interval: bootstrap percentiles of a biased metric, such as ECE, allow it.
    value: float
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"expected low <= high, got low {self.low:g} and high {self.high:g}")
        return self


def check_keys(field: str, found: Collection[str], expected: Collection[str]) -> None:
    """Raise ValueError, naming ``field``, unless the keys ``found`` are the ``expected`` ones."""
    if set(found) != set(expected):
        raise ValueError(f"{field}: expected {', '.join(expected)}; got {', '.join(found) or 'nothing'}")


def check_shares(field: str, shares: Mapping[str, float] | Collection[float]) -> None:
    """Raise ValueError, naming ``field``, unless the shares sum to 1."""
    total = sum(shares.values() if isinstance(shares, Mapping) else shares)
    if not math.isclose(total, 1.0, abs_tol=_SUM_TOLERANCE):
        raise ValueError(f"{field}: expected shares that sum to 1, got {total:g}")
