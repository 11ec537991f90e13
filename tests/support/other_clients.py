"""Ask a gateway by LangChain's and LiteLLM's clients, within an environment that has them.

python other_clients.py URL
"""

import sys


def langchain(url):
    from langchain_openai import ChatOpenAI

    def weather(place: str) -> str:
        """Tell the weather of a place."""
        return place

    model = ChatOpenAI(model="m", base_url=url, api_key="none", extra_body={"user": "ann", "bestfor": {"n": 4}})
    assert model.invoke("an animal").content == "ann-word here"
    assert "".join(one.content for one in model.stream("an animal")) == "ann-word here"
    assert model.bind_tools([weather]).invoke("an animal").content == "ann-word here"


def litellm(url):
    import litellm

    asked = {"model": "openai/m", "api_base": url, "api_key": "none", "messages": [{"role": "user", "content": "x"}]}
    ben = {"extra_headers": {"X-Bestfor-User": "ben"}}  # it drops `user` for models that it does not know
    answer = litellm.completion(**asked, **ben, extra_body={"bestfor": {"n": 4}})
    assert answer.choices[0].message.content == "ben-word here"
    stream = litellm.completion(**asked, **ben, stream=True)
    text = "".join(one.choices[0].delta.content or "" for one in stream)
    assert text == "ben-word here", repr(text)
    refused = ""
    try:
        litellm.completion(**asked, extra_body={"bestfor": {"n": 0}})
    except litellm.BadRequestError as error:
        refused = str(error)
    assert "bestfor.n" in refused


if __name__ == "__main__":
    langchain(sys.argv[1])
    litellm(sys.argv[1])
    sys.stdout.write("fine\n")
