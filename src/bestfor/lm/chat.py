"""Put chats into a language model's words: turns, the chat of a query with earlier items, and its token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]
"""One turn of a chat: ``{"role": "system" | "user" | "assistant", "content": text}``."""


Item = tuple[str, str]
"""An earlier input of the user ("" where the user wrote unasked) and what the user wrote for it."""

SPECIAL = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def messages(task_instruction: str, items: Sequence[Item], query_input: str) -> list[Message]:
    """The chat for one query, in our own words.

    Args:
        task_instruction: what to do, the system's turn; left out where it is empty.
        items: the user's earlier items, the one that matters most first.
        query_input: what is asked now.

    Returns:
        The instruction, each item as a pair of turns (the first item last), and the query. Items that nothing was asked
        for stand before the query in its own turn: turns have to take turns.
    """
    chat = [turn("system", task_instruction)] if task_instruction else []
    unasked: list[str] = []
    for asked, wrote in reversed(items):
        if asked:
            chat += [turn("user", asked), turn("assistant", wrote)]
        else:
            unasked.append(wrote)
    shown = "".join(f"Written earlier: {wrote}\n\n" for wrote in unasked)
    return [*chat, turn("user", shown + query_input)]


def asked_ids(tokenizer: PreTrainedTokenizerBase, chat: list[Message]) -> list[int]:
    """Token ids of a chat, up to where the model's text begins.

    Models without a chat template read the contents, separated by blank lines. Templates that know a thinking mode are
    asked to leave it out: a candidate is the answer.
    """
    if tokenizer.chat_template:
        return tokenizer(prompt_text(tokenizer, chat), add_special_tokens=False)["input_ids"]
    return tokenizer("\n\n".join(message["content"] for message in chat))["input_ids"]


def prompt_text(tokenizer: PreTrainedTokenizerBase, chat: list[Message]) -> str:
    """The text of a chat through the tokenizer's template, up to where the model's answer begins."""
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    return str(text)


def turn(role: str, content: str) -> Message:
    """One turn of a chat."""
    return {"role": role, "content": content}
