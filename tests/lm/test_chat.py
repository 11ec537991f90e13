"""Chats as templates render them, those that know no system turn among them."""

import jinja2
import pytest

from bestfor.errors import InputError
from bestfor.lm.chat import messages, prompt_text, takes_system

REFUSES = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
TURNS = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '|' }}{% endfor %}"
DROPS = "{% for m in messages if m['role'] != 'system' %}{{ m['role'] + ': ' + m['content'] + '|' }}{% endfor %}"
ALTERNATES = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}"
    "{{ m['role'] + ': ' + m['content'] + '|' }}{% endfor %}"
)


class Tokenizer:
    """A tokenizer of which only the template is asked, rendered as transformers does."""

    def __init__(self, template):
        self.chat_template, self.name_or_path = template, "gemma-like"

    def apply_chat_template(self, chat, **options):
        def refuse(words):
            raise jinja2.TemplateError(words)

        made = jinja2.Environment().from_string(self.chat_template)
        return made.render(messages=chat, raise_exception=refuse, **options)


CHAT = messages("Write.", [("in", "out")], "now")


@pytest.mark.parametrize("template", [REFUSES + TURNS, DROPS, ALTERNATES])
def test_without_a_system_turn_the_instruction_stands_before_the_first_user_turn(template):
    made = Tokenizer(template)
    assert prompt_text(made, CHAT) == "user: Write.\n\nin|assistant: out|user: now|"
    assert not takes_system(made)
    assert prompt_text(made, messages("", (), "now")) == "user: now|"


def test_a_template_that_knows_system_turns_is_left_alone():
    made = Tokenizer(TURNS)
    assert prompt_text(made, CHAT) == "system: Write.|user: in|assistant: out|user: now|"
    assert takes_system(made)
    assert takes_system(Tokenizer(None))


@pytest.mark.parametrize("instructed", [True, False])
def test_a_template_that_refuses_the_chat_all_the_same_is_one_line(instructed):
    made = Tokenizer("{{ raise_exception('Only one turn') }}")
    with pytest.raises(InputError, match=r"chat template of 'gemma-like': found a refusal \(Only one turn\)"):
        prompt_text(made, CHAT if instructed else CHAT[1:])
