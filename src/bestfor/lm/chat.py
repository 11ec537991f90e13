"""Build prompts: the chat of a query with the user's earlier items, its text, and its token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from bestfor.data.turns import instructs, without_system
from bestfor.errors import InputError

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
    """Build the chat for one query, in our own words.

    Args:
        task_instruction: what to do, the system's turn; left out where it is empty.
        items: the user's earlier items, the one that matters most first.
        query_input: what is asked now.

    Returns:
        The instruction, each item as a pair of turns (the first item last), and the query. Items
        without an input stand before the query in its own turn: turns have to take turns.
    """
    chat = [turn("system", task_instruction)] if task_instruction else []
    alone: list[str] = []
    for given, wrote in reversed(items):
        if given:
            chat += [turn("user", given), turn("assistant", wrote)]
        else:
            alone.append(wrote)
    before = "".join(f"Written earlier: {wrote}\n\n" for wrote in alone)
    return [*chat, turn("user", before + query_input)]


def prompt_ids(tokenizer: PreTrainedTokenizerBase, chat: Sequence[Message], *, end: str = "") -> list[int]:
    """Encode a chat, up to where the model's text begins.

    Models without a chat template read :func:`contents`. Templates that know a thinking mode are asked to leave it out:
    a candidate is the answer.

    Args:
        tokenizer: the model's.
        chat: the turns.
        end: what follows the contents, where there are any and no template.
    """
    if tokenizer.chat_template:
        return tokenizer(prompt_text(tokenizer, chat), add_special_tokens=False)["input_ids"]
    text = contents(chat)
    return tokenizer(text + end if text else text)["input_ids"]


def prompt_text(tokenizer: PreTrainedTokenizerBase, chat: Sequence[Message]) -> str:
    """Render a chat through the tokenizer's template, up to where the model's answer begins.

    Where the template refuses system turns, or leaves them out, the instruction stands before the first user turn.

    Raises:
        InputError: the template refuses the chat all the same.
    """
    try:
        text = _rendered(tokenizer, chat)
        if not _lost(chat, text):
            return text
    except TemplateError as error:
        if not instructs(chat):
            raise _refused(tokenizer, error) from error
    try:
        return _rendered(tokenizer, without_system(chat))
    except TemplateError as error:
        raise _refused(tokenizer, error) from error


def takes_system(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tell whether a tokenizer's template knows system turns; True where there is no template."""
    if not tokenizer.chat_template:
        return True
    probe = [turn("system", "Instruction."), turn("user", "Question.")]
    try:
        return not _lost(probe, _rendered(tokenizer, probe))
    except TemplateError:
        return False


def _rendered(tokenizer: PreTrainedTokenizerBase, chat: Sequence[Message]) -> str:
    text = tokenizer.apply_chat_template(list(chat), tokenize=False, add_generation_prompt=True, enable_thinking=False)
    return str(text)


def _lost(chat: Sequence[Message], text: str) -> bool:
    """Tell whether a template left the system turn out and kept the last one."""
    said = [message["content"].strip() for message in chat if message["role"] == "system"]
    return any(one not in text for one in said) and chat[-1]["content"].strip() in text


def _refused(tokenizer: PreTrainedTokenizerBase, error: TemplateError) -> InputError:
    expected = "one that takes user and assistant turns (with items = 0 in [policy] there is one user turn)"
    return InputError(f"chat template of '{tokenizer.name_or_path}'", f"a refusal ({error})", expected)


def contents(chat: Sequence[Message]) -> str:
    """Join the turns' contents by empty lines: what models without a chat template read."""
    return "\n\n".join(message["content"] for message in chat)


def turn(role: str, content: str) -> Message:
    """Make one turn of a chat."""
    return {"role": role, "content": content}
