"""The API errors that clients receive, in OpenAI's shape.

    ApiError                     status  type / code
    ├── BadRequest               400     invalid_request_error / invalid_value ...
    ├── Refused                  400     image_generation_user_error / moderation_blocked
    │   └── Held                 202     image_generation_user_error / held_for_review, with Location
    ├── Unauthorized             401     authentication_error / invalid_api_key
    ├── Forbidden                403     permission_error / insufficient_scope ...
    ├── NotFound                 404     invalid_request_error / not_found
    ├── MethodNotAllowed         405
    ├── Conflict                 409     invalid_request_error / conflict
    ├── BodyTooLarge             413
    ├── HeadersTooLarge          431
    ├── WrongContentType         415
    ├── Busy                     429     rate_limit_error / queue_full, with Retry-After
    │   └── RateLimited                  rate_limit_error / rate_limit_exceeded
    ├── Disconnected             499     never sent, because the client is gone; counted as `cancelled`
    ├── Internal                 500     server_error / internal_error
    ├── CaseBroken               500     server_error / review_broken
    ├── PictureBroken            500     server_error / picture_broken
    ├── MarkingFailed            500     server_error / marking_failed
    ├── TextUnjudged             500     server_error / text_unjudged
    ├── Unavailable              503     server_error / not_ready ..., with Retry-After
    └── DeadlineExceeded         504     server_error / deadline_exceeded

A message never holds a prompt, a matched word, a score, a path or a trace.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Sequence
from typing import Any, ClassVar

__all__ = [
    "ApiError",
    "BadRequest",
    "BodyTooLarge",
    "Busy",
    "CaseBroken",
    "Conflict",
    "DeadlineExceeded",
    "Disconnected",
    "Forbidden",
    "HeadersTooLarge",
    "Held",
    "Internal",
    "MarkingFailed",
    "MethodNotAllowed",
    "NotFound",
    "PictureBroken",
    "RateLimited",
    "Refused",
    "TextUnjudged",
    "Unauthorized",
    "Unavailable",
    "WrongContentType",
    "without_message",
]


def without_message(error: BaseException) -> str:
    """An error for the log: its type and where it happened. Its message is left out because it may quote a prompt."""
    return f"{type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}".rstrip()


class ApiError(Exception):
    """An error answer. Subclasses set its HTTP status, `type` and `code`."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: str = "internal_error"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or type(self).code
        self.headers: dict[str, str] = {}

    def body(self) -> dict[str, Any]:
        """The error as the JSON body that OpenAI clients parse."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": error}


class BadRequest(ApiError):
    """The request contains a value that is invalid or not supported."""

    status, type, code = 400, "invalid_request_error", "invalid_value"


class Refused(ApiError):
    """The policies refused the request or one of its pictures. Repeating the same request gives the same
    result, unless a reader gave no answer (`unread`).
    """

    status, type, code = 400, "image_generation_user_error", "moderation_blocked"

    def __init__(
        self,
        *,
        decision_id: str,
        policy: str,
        stage: str,
        param: str = "prompt",
        categories: Sequence[str] = (),
        reasons: Sequence[str] = (),
        messages: Sequence[str] = (),
        seed: int | None = None,
        unread: bool = False,
    ) -> None:
        named = f" ({', '.join(categories)})" if categories else ""
        unsaid = ("Something in it could not be read or judged.",) if unread else ()
        why = "".join(f" {text}" for text in (*reasons, *messages, *unsaid))
        # gateways look for these words to tell a refusal by policy from a mistake: litellm, and what stands on it
        refused = "your request was rejected as a result of the safety system"
        super().__init__(f"{refused}{named}.{why} decision: {decision_id}", param=param)
        self.decision_id = decision_id
        self.details = {
            "moderation_stage": {"prompt": "input", "upload": "input", "picture": "output"}[stage],
            "categories": list(categories),
            "messages": list(messages),
            "policy": policy,
            "decision_id": decision_id,
            "seed": seed,
            "unread": unread,
        }

    def body(self) -> dict[str, Any]:
        body = super().body()
        body["error"] |= {"decision_id": self.decision_id, "moderation_details": self.details}
        return body


class Held(Refused):
    """A person decides about the pictures first. `Location` is where the caller learns the outcome."""

    status, code = 202, "held_for_review"

    def __init__(self, refused: Refused, case_id: str) -> None:
        details = refused.details
        ApiError.__init__(
            self, f"your request is held for review: ask `/v1/reviews/{case_id}` for the outcome", param=refused.param
        )
        self.decision_id, self.details = refused.decision_id, details
        self.headers = refused.headers | {"Location": f"/v1/reviews/{case_id}"}
        self.case_id = case_id

    def body(self) -> dict[str, Any]:
        body = super().body()
        body["error"]["review"] = {"id": self.case_id, "status": "pending"}
        return body


class Unauthorized(ApiError):
    """The API key is missing or invalid."""

    status, type, code = 401, "authentication_error", "invalid_api_key"

    def __init__(self) -> None:
        super().__init__("a valid key is needed: send `Authorization: Bearer <key>`")
        self.headers = {"WWW-Authenticate": "Bearer"}


class Forbidden(ApiError):
    """The API key is valid but lacks the required permission."""

    status, type, code = 403, "permission_error", "insufficient_scope"


class NotFound(ApiError):
    """The path does not exist."""

    status, type, code = 404, "invalid_request_error", "not_found"


class MethodNotAllowed(ApiError):
    """The path exists but does not support this method."""

    status, type, code = 405, "invalid_request_error", "method_not_allowed"


class Conflict(ApiError):
    """The policy bundle is valid but conflicts with the one in use: an older version or another set."""

    status, type, code = 409, "invalid_request_error", "conflict"


class HeadersTooLarge(ApiError):
    """The head of the request has more bytes or headers than the service reads."""

    status, type, code = 431, "invalid_request_error", "headers_too_large"


class BodyTooLarge(ApiError):
    """The body exceeds the size limit. The rest of it was not read."""

    status, type, code = 413, "invalid_request_error", "body_too_large"


class WrongContentType(ApiError):
    """The body is not of the type that the path takes, or it is compressed."""

    status, type, code = 415, "invalid_request_error", "unsupported_media_type"


class _Retryable(ApiError):
    """An error after which the same request may succeed."""

    def __init__(self, message: str, *, retry_after: float = 1.0, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.headers = {"Retry-After": str(max(1, math.ceil(retry_after)))}


class Busy(_Retryable):
    """The queue is full."""

    status, type, code = 429, "rate_limit_error", "queue_full"


class RateLimited(Busy):
    """The key has exceeded its rate limit."""

    code = "rate_limit_exceeded"


class Unavailable(_Retryable):
    """The worker is not ready, is shutting down, or cannot write a required audit record."""

    status, type, code = 503, "server_error", "not_ready"


class Disconnected(ApiError):
    """The client disconnected before the answer was sent."""

    status, type, code = 499, "server_error", "client_closed_request"


class Internal(ApiError):
    """An unexpected error. The log contains the traceback under the request id."""

    def __init__(self, request_id: str) -> None:
        super().__init__(f"internal error; request: {request_id}")


class CaseBroken(ApiError):
    """The sealed file of a held case does not open. Other cases are not affected."""

    code = "review_broken"

    def __init__(self) -> None:
        super().__init__("the sealed file of this case is gone or was changed; the case can only be rejected")


class PictureBroken(ApiError):
    """The model gave values that are not finite where a picture should be. No picture was judged or returned."""

    code = "picture_broken"

    def __init__(self) -> None:
        super().__init__(
            "the model gave no picture: its values are not finite numbers; another seed may work, and if none does, the"
            " model's weights or `dtype` are at fault"
        )


class MarkingFailed(ApiError):
    """A picture could not get a mark that the settings demand. No picture of the request was sent."""

    code = "marking_failed"

    def __init__(self, mark: str) -> None:
        super().__init__(
            f"a picture could not be marked ({mark}), so none was sent; the service's log and metrics tell its operator"
            " more"
        )


class TextUnjudged(ApiError):
    """The model's pipeline would have drawn words that no rule has seen. Nothing was drawn."""

    code = "text_unjudged"

    def __init__(self) -> None:
        super().__init__(
            "the model's pipeline put words of its own in place of the prompt that no rule has seen, so nothing was"
            " drawn; its rewriter must be one that can be switched off"
        )


class DeadlineExceeded(ApiError):
    """The deadline of the request passed before its last picture was judged."""

    status, type, code = 504, "server_error", "deadline_exceeded"
