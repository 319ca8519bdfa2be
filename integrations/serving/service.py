"""What the routes share: the guard behind its pool, and who may ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Header, HTTPException, Path, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from medward.guard.errors import MedwardError, UnavailableError
from medward.guard.pipeline import Guard
from medward.guard.spec import ModelSpec
from medward.guard.types import Answer, Array, Principal, Query
from medward.integrations.serving.keys import KeyStore, Scope
from medward.integrations.serving.limits import Limits, Pool
from medward.integrations.serving.metrics import Metrics

bearer = HTTPBearer(auto_error=False, description="A key made by `medward keys add`.")
Study = Annotated[
    str,
    Header(
        alias="Medward-Study",
        max_length=128,
        description="What all images of the request belong to, as a StudyInstanceUID: slices of one study look alike.",
    ),
]
header = APIKeyHeader(name="X-API-Key", auto_error=False, description="The same key, without a scheme.")


@dataclass(frozen=True, slots=True)
class Received:
    """The rows of a request, the studies that its files say they are of, and what makes the files' own images."""

    inputs: Sized
    studies: frozenset[str] = frozenset()
    pictures: Sequence[Callable[[], Array]] = ()

    @property
    def study(self) -> str:
        """The one study of all files, or ""."""
        if len(self.studies) > 1:
            raise MedwardError(
                f"the files are of {len(self.studies)} studies; send those of one study per request, or say in the "
                "header Medward-Study what they all belong to"
            )
        return next(iter(self.studies), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A guard, and the bounds within which it is asked."""

    guard: Guard
    limits: Limits
    pool: Pool
    metrics: Metrics
    version: str

    async def answer(self, principal: Principal, read: Callable[[], Received], study: str = "") -> Answer:
        """Read the inputs, of one `study`, and answer them in a worker thread; `read` may raise `MedwardError`.

        Without a `study` said it is the one that the files say, of which there may then be one only.

        The caller holds a slot of the pool. An answer that is withheld because a part does not answer raises
        `UnavailableError`: the client is to ask again, not to take it for a verdict. It stays on record as it is.
        """

        def job() -> Answer:
            received = read()
            rows = len(received.inputs)
            if rows > self.limits.rows:
                raise MedwardError(f"inputs: at most {self.limits.rows} rows per request, got {rows}")
            belongs = study or received.study
            asked = Query(principal=principal, inputs=received.inputs, study=belongs, pictures=received.pictures)
            return self.guard.answer(asked)

        answer = await self.pool.run(job)
        self.metrics.answer(answer)
        if answer.unavailable:
            raise UnavailableError(f"withheld: {', '.join(answer.unavailable)}")
        return answer


@dataclass(frozen=True, slots=True)
class Caller:
    """Turns a request's key into its principal: 401 without one, 403 for the wrong scope."""

    keys: KeyStore
    scope: Scope

    async def __call__(
        self,
        credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)],
        api_key: Annotated[str | None, Security(header)],
    ) -> Principal:
        """Who asks."""
        token = credentials.credentials if credentials else api_key
        key = self.keys.authenticate(token) if token else None
        if key is None:
            raise HTTPException(401, "send a valid key as Authorization: Bearer or X-API-Key", CHALLENGE)
        if key.scope != self.scope:
            raise HTTPException(403, f"this key is for {key.scope}, the route needs one for {self.scope}")
        return key.principal


CHALLENGE = {"WWW-Authenticate": "Bearer"}


async def anonymous() -> Principal:
    """Everybody is one principal: the development mode without keys."""
    return ("anonymous",)


def model_name(spec: ModelSpec) -> Any:
    """The path parameter that OpenAPI documents with the one name served here."""
    return Path(description="The model's name.", json_schema_extra={"enum": [spec.name]})
