from bestfor.lm.chat import messages
from bestfor.policies.profiles import INSTRUCTION, cleaned, summary_request, with_profile
from bestfor.policies.prompts import published, turns


def test_a_request_shows_the_latest_item_last_and_inputs_where_asked():
    items = [("late ask", "late"), ("", "unasked"), ("early ask", "early")]
    system, user = summary_request("Describe.")(items, "never shown")
    assert system == {"role": "system", "content": "Describe."}
    assert user["content"] == (
        "Text 1\nAsked: early ask\nWritten: early\n\nText 2\nunasked\n\nText 3\nAsked: late ask\nWritten: late\n\n"
        "Describe this author in a few sentences."
    )
    short = summary_request(INSTRUCTION, inputs=False)(items, "")[1]["content"]
    assert "ask" not in short.replace("unasked", "")
    assert "never shown" not in user["content"]


def test_a_profile_ends_the_instruction_or_stands_before_the_query():
    items = [("asked", "wrote")]
    plain = turns("Write.")(items, "query")
    told = with_profile(turns("Write."), "Short words.")(items, "query")
    assert told[0]["content"] == "Write.\n\nAbout this author: Short words."
    assert told[1:] == plain[1:]
    bare = with_profile(turns(""), "Short words.")(items, "query")
    assert bare[:-1] == messages("", items, "query")[:-1]
    assert bare[-1]["content"] == "About this author: Short words.\n\nquery"
    (one,) = with_profile(published("LaMP_5"), "Short words.")(items, "query")
    (without,) = published("LaMP_5")(items, "query")
    assert one["content"] == f"About this author: Short words.\n\n{without['content']}"
    assert with_profile(turns("Write."), "")(items, "query") == plain


def test_a_summary_is_one_line():
    assert cleaned("  It is\n\n short.\t") == "It is short."
    assert cleaned(" \n") == ""
