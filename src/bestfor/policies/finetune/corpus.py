"""Build the conversations that a policy is fine-tuned on, one user each, with the user's own texts as targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from bestfor import rng
from bestfor.data import schema
from bestfor.errors import InputError
from bestfor.lm.chat import CHAT_TEMPLATE, SPECIAL, Item, messages, prompt_ids, prompt_text
from bestfor.types import IntArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Conversation:
    """Some items of one user in time order, as the policy reads them.

    Attributes:
        user: whose items they are.
        instruction: the system's turn.
        items: inputs and what the user wrote, oldest first.
    """

    user: str
    instruction: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Encoded:
    """A conversation in tokens.

    Attributes:
        ids: shape (t,), the tokens.
        target: shape (t,), 1 where a token is to be predicted (the user's texts and their ends), else 0.
    """

    ids: IntArray
    target: IntArray


@dataclass(frozen=True)
class Corpus:
    """Histories with what is asked of their writers.

    Attributes:
        histories: a table of schema ``HISTORIES``.
        instruction: the system's turn of all its conversations.
    """

    histories: pa.Table
    instruction: str


def conversations(corpora: Sequence[Corpus], longest: int) -> list[Conversation]:
    """Cut every user's history, in time order, into pieces of at most ``longest`` items.

    In a piece every text follows the texts before it, so one piece teaches to write with 0 to ``longest`` - 1 earlier
    items. The order of the rows does not matter.

    Raises:
        InputError: there is no item at all.
    """
    found: list[Conversation] = []
    for corpus in corpora:
        by_user: dict[str, list[tuple[int, str, str, str]]] = {}
        for row in corpus.histories.select(schema.HISTORIES.names).to_pylist():
            entry = (row["timestamp"] or 0, row["item_id"], row["input"], row["output"])
            by_user.setdefault(row["user_id"], []).append(entry)
        for user, entries in sorted(by_user.items()):
            items = [(given, wrote) for _, _, given, wrote in sorted(entries)]
            pieces = (tuple(items[start : start + longest]) for start in range(0, len(items), longest))
            found += [Conversation(user, corpus.instruction, piece) for piece in pieces]
    if not found:
        raise InputError("histories", "no items", "at least one")
    return found


def encode(tokenizer: PreTrainedTokenizerBase, talks: Sequence[Conversation], limit: int) -> list[Encoded]:
    """Encode conversations as tokens and targets, through the tokenizer's own chat template.

    Conversations over ``limit`` tokens lose their oldest items; one whose newest item alone is over it is left out.
    Where a template rewrites earlier turns when later ones follow (Qwen3's takes their thoughts away), and where there
    is none, every item makes an example of its own, as it is asked for when sampling.

    Raises:
        InputError: the tokenizer's template rewrites earlier turns of some conversations only.
    """
    if not _adds(tokenizer):
        return [one for talk in talks for one in _apart(tokenizer, talk, limit)]
    found = _encode(tokenizer, talks)
    encoded: list[Encoded] = []
    for talk, one in zip(talks, found, strict=True):
        first = 0
        while one is not None and len(one.ids) > limit:
            first += 1
            shorter = Conversation(talk.user, talk.instruction, talk.items[first:])
            one = _encode(tokenizer, [shorter])[0] if shorter.items else None
        if one is not None:
            encoded.append(one)
    return encoded


def _encode(tokenizer: PreTrainedTokenizerBase, talks: Sequence[Conversation]) -> list[Encoded]:
    if not talks:
        return []
    rendered = [_render(tokenizer, talk) for talk in talks]
    whole = [text for text, _ in rendered]
    tokens = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    encoded: list[Encoded] = []
    for (_, spans), ids, offsets in zip(rendered, tokens["input_ids"], tokens["offset_mapping"], strict=True):
        starts = np.array([start for start, _ in offsets])
        edges = np.array(spans).ravel()
        target = np.searchsorted(edges, starts, side="right") % 2
        encoded.append(Encoded(np.array(ids, dtype=np.int64), target.astype(np.int64)))
    return encoded


def _adds(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Find out if a chat's text begins with that of its beginning."""
    if not tokenizer.chat_template:
        return False
    try:
        _render(tokenizer, Conversation("", "do", (("a", "b"), ("c", "d"), ("e", "f"))))
    except InputError:
        return False
    return True


def _apart(tokenizer: PreTrainedTokenizerBase, talk: Conversation, limit: int) -> Iterator[Encoded]:
    """Encode an example for each item: the chat that asks for it, with as many earlier items as fit, and its text."""
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    for index, (given, wrote) in enumerate(talk.items):
        answer = [*tokenizer(wrote, add_special_tokens=False)["input_ids"], *end]
        for first in range(index + 1):
            chat = messages(talk.instruction, talk.items[first:index][::-1], given)
            prompt = prompt_ids(tokenizer, chat)
            if len(prompt) + len(answer) <= limit:
                target = np.repeat([0, 1], [len(prompt), len(answer)])
                yield Encoded(np.array([*prompt, *answer], dtype=np.int64), target.astype(np.int64))
                break


def _render(tokenizer: PreTrainedTokenizerBase, talk: Conversation) -> tuple[str, list[tuple[int, int]]]:
    """Render a conversation as one text, and where in it the user's own texts (with their ends) begin and end."""
    text = ""
    spans: list[tuple[int, int]] = []
    for index, (given, wrote) in enumerate(talk.items):
        prompt = messages(talk.instruction, talk.items[:index][::-1], given)
        answer = {"role": "assistant", "content": wrote}
        before = prompt_text(tokenizer, prompt)
        after = str(tokenizer.apply_chat_template([*prompt, answer], tokenize=False, enable_thinking=False))
        if not (before.startswith(text) and after.startswith(before)):
            raise InputError(
                "chat template", "earlier turns that change when later ones follow", "a template that adds"
            )
        text = after
        spans.append((len(before), len(after)))
    return text, spans


def batches(encoded: Sequence[Encoded], tokens: int, *, seed: int, epoch: int) -> Iterator[list[int]]:
    """Order one epoch's batches: neighbours in length together, padded size at most ``tokens``, shuffled by name.

    A conversation longer than ``tokens`` is a batch of its own.
    """
    draw = rng.derive(seed, "epoch", epoch)
    lengths = np.array([len(one.ids) for one in encoded])
    order = np.lexsort((draw.random(len(encoded)), lengths))
    groups: list[list[int]] = [[]]
    for index in order.tolist():
        if groups[-1] and (len(groups[-1]) + 1) * lengths[index] > tokens:
            groups.append([])
        groups[-1].append(index)
    for place in draw.permutation(len(groups)):
        yield groups[place]


def train_tokenizer(texts: Sequence[str], size: int, *, uncased: bool = False) -> PreTrainedTokenizerBase:
    """Train a byte-level BPE tokenizer with the project's chat template; any text has an encoding.

    Args:
        texts: what it learns from.
        size: tokens, at most.
        uncased: whether it reads everything in lower case.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    if uncased:
        tokenizer.normalizer = normalizers.Lowercase()
    # A space before every text: a name is then the same token at the beginning of a text as within it.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL[0],
        eos_token=SPECIAL[1],
        additional_special_tokens=list(SPECIAL[2:]),
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast
