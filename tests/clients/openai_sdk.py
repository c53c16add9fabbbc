"""Drives a gateway with the PyPI `openai` library, as its users do. Exit 0: all of it held.

usage: openai_sdk.py BASE_URL LIMITED_URL
The environment has ADMIN, USER (the user ana) and WRONG as keys. The agent `main` echoes; `ill` fails, `slow` comes word by word,
`endless` does so for ten
seconds, `broken` breaks off in mid-stream. LIMITED_URL takes two requests.
"""

import asyncio
import os
import sys
import time

import openai
from openai import AsyncOpenAI, OpenAI

BASE, LIMITED = sys.argv[1], sys.argv[2]
MODEL = "gatelet/main"


def client(key="ADMIN", base=BASE, retries=0):
    return OpenAI(base_url=base, api_key=os.environ[key], max_retries=retries, timeout=30)


def said(text):
    return [{"role": "user", "content": text}]


def fails(kind, call, **wanted):
    try:
        call()
    except kind as error:
        for name, value in wanted.items():
            assert getattr(error, name) == value, (name, getattr(error, name), value)
        return error
    raise AssertionError(f"no {kind.__name__}")


def plain():
    answer = client().chat.completions.create(model=MODEL, messages=said("hi there"))
    choice = answer.choices[0]
    assert choice.message.content == "echo: hi there", answer
    assert (choice.message.role, choice.finish_reason, answer.model, answer.object) == ("assistant", "stop", MODEL, "chat.completion")
    assert answer.id.startswith("chatcmpl-msg_") and abs(answer.created - time.time()) < 600, answer
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0, answer.usage
    for model in ("main", "gatelet", "default"):
        assert client().chat.completions.create(model=model, messages=said("x")).model == MODEL, model
    more = client("USER").chat.completions.create(
        model=MODEL, messages=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "parts"}]}],
        temperature=0.2, top_p=0.9, max_completion_tokens=50, stop=["END"], seed=7, logprobs=False, user="ana", store=False,
        metadata={"a": "b"}, presence_penalty=0.1, extra_body={"what_is_new": True},
    )
    assert more.choices[0].message.content == "echo: parts", more
    raw = client().chat.completions.with_raw_response.create(model=MODEL, messages=said("raw"), extra_headers={"X-Request-Id": "mine"})
    assert raw.headers["x-request-id"] == "mine" and raw.parse()._request_id == "mine"


def streaming():
    words = "one two three four"
    chunks = list(client().chat.completions.create(model=MODEL, messages=said(words), stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant", chunks[0]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == f"echo: {words}", chunks
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens > 0 and chunks[-2].choices[0].finish_reason == "stop", chunks[-2:]
    assert all(c.usage is None for c in chunks[:-1]) and len({c.id for c in chunks}) == 1
    assert len(chunks) >= 6, "word by word"
    began, times = time.monotonic(), []
    for chunk in client().chat.completions.create(model=MODEL, messages=said("slow"), stream=True):
        if chunk.choices[0].delta.content:
            times.append(time.monotonic() - began)
    assert times[-1] - times[0] > 0.3, ("they come as they are spoken", times)
    with client().chat.completions.stream(model=MODEL, messages=said("helper")) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.content == "echo: helper"


def models():
    listed = client("USER").models.list()
    assert [m.id for m in listed.data] == [MODEL, "gatelet/second"] and listed.data[0].owned_by == "gatelet", listed
    assert client().models.retrieve(MODEL).id == MODEL
    fails(openai.NotFoundError, lambda: client().models.retrieve("gatelet/nobody"), code="model_not_found")


def errors():
    def ask(key="ADMIN", **more):
        return lambda: client(key).chat.completions.create(**{"model": MODEL, "messages": said("x"), **more})

    fails(openai.AuthenticationError, ask("WRONG"), code="invalid_api_key")
    fails(openai.NotFoundError, ask(model="gpt-9"), code="model_not_found")
    fails(openai.BadRequestError, ask(n=2), param="n", type="invalid_request_error")
    fails(openai.BadRequestError, ask(messages=[]), param="messages")
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    assert "gateway's own tools" in fails(openai.BadRequestError, ask(tools=tools), param="tools").message
    fails(openai.PermissionDeniedError, ask("USER", user="bob"))
    failed = fails(openai.InternalServerError, ask(messages=said("ill")), status_code=502, code="upstream_failed")
    assert failed.response.headers["x-should-retry"] == "false"
    # The library's own retries: what was taken and failed is not sent again by itself.
    fails(openai.InternalServerError, lambda: client(retries=2).chat.completions.create(model=MODEL, messages=said("ill once")))
    # In mid-stream.
    fails(openai.APIError, lambda: list(client().chat.completions.create(model=MODEL, messages=said("ill"), stream=True)), code="upstream_failed")
    fails(openai.APIError, lambda: list(client().chat.completions.create(model=MODEL, messages=said("broken"), stream=True)), code="upstream_failed")
    limited = client(base=LIMITED)
    error = fails(openai.RateLimitError, lambda: [limited.models.list() for _ in range(9)], code="rate_limit_exceeded")
    assert int(error.response.headers["retry-after"]) >= 1


def disconnect():
    stream = client().chat.completions.create(model=MODEL, messages=said("endless"), stream=True)
    next(iter(stream))
    stream.close()


async def many():
    async with AsyncOpenAI(base_url=BASE, api_key=os.environ["ADMIN"], max_retries=0, timeout=60) as many:
        async def one(n):
            stream = await many.chat.completions.create(model=MODEL, messages=said(f"stream {n}"), stream=True)
            return "".join([c.choices[0].delta.content or "" async for c in stream])

        texts = await asyncio.gather(*(one(n) for n in range(40)))
        assert texts == [f"echo: stream {n}" for n in range(40)], texts


plain()
streaming()
models()
errors()
disconnect()
asyncio.run(many())
print(f"openai {openai.__version__}: all of it held")
