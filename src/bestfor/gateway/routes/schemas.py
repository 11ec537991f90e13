"""Describe the bodies of requests for OpenAPI, and check those that are the gateway's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["rating", "thumb", "preference", "edit", "kept", "dismissed", "comment"]
Place = int | str


class FeedbackBody(BaseModel):
    """Statement of a person on an answer, or on a bare text.

    Attributes:
        answer_id: of the answer; without one ``user`` and ``text`` say what is meant.
        kind: of the label.
        value: a rating's number, a thumb's true or false, the preferred candidate (index or text) or a ranking.
        text: the final text of an edit, the words of a comment; else the text that is spoken of.
        over: the candidate that another was preferred to; the shown one where it is not said.
        key: names the label; sent again it changes it, or does nothing.
        user: who says it, where there is no answer.
        prompt: what was asked, where there is no answer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    answer_id: str | None = None
    kind: Kind
    value: bool | float | str | list[int | str] | None = None
    text: str | None = None
    over: int | str | None = None
    key: str | None = Field(default=None, min_length=1, max_length=512)
    user: str | None = None
    prompt: str = ""


class PatchBody(BaseModel):
    """Change of a label that is there: its value or its text; the kind stays."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind | None = None
    value: bool | float | str | list[int | str] | None = None
    text: str | None = None
    over: int | str | None = None


class AskBody(BaseModel):
    """Question which two texts to show a person.

    Attributes:
        user: who will be asked.
        prompt: what the texts answer.
        texts: two or more.
        rule: ``expected`` (worth most to later picks), ``duel``, ``top-two`` or ``random``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    user: str = Field(min_length=1)
    prompt: str = ""
    texts: list[str] = Field(min_length=2, max_length=512)
    rule: Literal["expected", "duel", "top-two", "random"] = "expected"


class RerankBody(BaseModel):
    """Documents to be ordered for a person, as Jina, Cohere and vLLM take them.

    Attributes:
        query: what is asked.
        documents: texts, or objects with a text.
        user: whose taste counts.
        model: is repeated in the answer.
        top_n: so many are returned.
        return_documents: whether the texts are returned.
        max_tokens_per_doc: is taken and has no effect: texts are read as the served model reads them.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    query: str
    documents: list[str | dict[str, Any]] = Field(min_length=1, max_length=2048)
    user: str | None = None
    model: str | None = None
    top_n: int | None = Field(default=None, ge=1)
    return_documents: bool = False
    max_tokens_per_doc: int | None = None


_OWN = {
    "user": {"type": "string", "description": "Whose taste counts."},
    "n": {"type": "integer", "minimum": 1, "description": "The n best candidates are returned."},
    "stream": {"type": "boolean"},
    "bestfor": {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "minimum": 1, "description": "Candidates."},
            "rule": {"type": "string", "description": "Picks among them, as 'bestfor select --help' lists."},
            "k": {"type": "integer", "minimum": 1, "description": "So many candidates are enough."},
            "deadline": {"type": "number", "exclusiveMinimum": 0, "description": "Seconds."},
            "candidates": {"type": "boolean", "description": "Whether all candidates are returned."},
            "detail": {"enum": ["off", "short", "full"]},
        },
        "additionalProperties": False,
    },
}
_MESSAGE = {"type": "object", "properties": {"role": {"type": "string"}}, "required": ["role"]}
QUESTION: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "model": {"type": "string"},
        "messages": {"type": "array", "items": _MESSAGE, "minItems": 1},
        **_OWN,
    },
    "required": ["messages"],
}
COMPLETION: Mapping[str, Any] = {
    "type": "object",
    "properties": {"model": {"type": "string"}, "prompt": {"type": "string"}, **_OWN},
    "required": ["prompt"],
}


def documented(schema: Mapping[str, Any] | type[BaseModel]) -> dict[str, Any]:
    """Describe a JSON body for OpenAPI."""
    plain = schema.model_json_schema() if isinstance(schema, type) else dict(schema)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": plain}}}}
