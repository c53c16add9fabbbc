"""Holds the suite's scripted models against the official clients: what those read as text and tool calls, gatelet may rely on.

usage: fakes.py OPENAI_BASE ANTHROPIC_BASE
Both models say `echo: WORDS`, and call `time_now` with {"offset": "+01:00"} beside some text where the words are `call`.
"""

import json
import sys

from anthropic import Anthropic
from openai import OpenAI

KEY = "key-00000000000000000000"
SCHEMA = {"type": "object", "properties": {"offset": {"type": "string"}}}


def chat_completions(base):
    client = OpenAI(base_url=base, api_key=KEY, max_retries=0, timeout=30)
    tools = [{"type": "function", "function": {"name": "time_now", "description": "now", "parameters": SCHEMA}}]
    ask = {"model": "stub", "messages": [{"role": "user", "content": "hi"}]}
    assert client.chat.completions.create(**ask).choices[0].message.content == "echo: hi"
    streamed = client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **ask)
    text, usage = "", None
    for chunk in streamed:
        usage = chunk.usage or usage
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
    assert text == "echo: hi" and usage.total_tokens > 0, (text, usage)
    ask["messages"][0]["content"] = "call"
    with client.chat.completions.stream(tools=tools, **ask) as stream:
        final = stream.get_final_completion()
    call = final.choices[0].message.tool_calls[0]
    assert (call.function.name, json.loads(call.function.arguments)) == ("time_now", {"offset": "+01:00"}), call
    assert final.choices[0].finish_reason == "tool_calls"
    assert [m.id for m in client.models.list()] == ["stub"]


def messages(base):
    client = Anthropic(base_url=base, api_key=KEY, max_retries=0, timeout=30)
    tools = [{"name": "time_now", "description": "now", "input_schema": SCHEMA}]
    ask = {"model": "stub", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
    assert client.messages.create(**ask).content[0].text == "echo: hi"
    with client.messages.stream(**ask) as stream:
        assert "".join(stream.text_stream) == "echo: hi"
        assert stream.get_final_message().usage.output_tokens > 0
    ask["messages"][0]["content"] = "call"
    with client.messages.stream(tools=tools, **ask) as stream:
        final = stream.get_final_message()
    call = next(block for block in final.content if block.type == "tool_use")
    assert (call.name, call.input) == ("time_now", {"offset": "+01:00"}), call
    assert final.stop_reason == "tool_use"


if __name__ == "__main__":
    chat_completions(sys.argv[1])
    messages(sys.argv[2])
    print("the scripted models are read by both official clients")
