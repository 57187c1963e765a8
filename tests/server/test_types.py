"""Every reply and every event is what the official packages declare: validated, where their clients only fill in what is there. SERVER.md section 3."""
import json

import anthropic.types
import openai.types.chat
import openai.types.responses
import pydantic
import pytest
from serverlib import Stream, get, post

ASK = "Tell me about the sea."
MESSAGES = [{"role": "user", "content": ASK}]
SCHEMA = {"type": "object", "properties": {"word": {"enum": ["sea", "king"]}}, "required": ["word"], "additionalProperties": False}
TOOL = {"name": "look_up", "description": "Look up a word.", "strict": True, "parameters": SCHEMA}
BASE = {"temperature": 0, "max_tokens": 60}
CHAT = {"text": {}, "logprobs": {"logprobs": True, "top_logprobs": 3}, "call": {"tools": [{"type": "function", "function": TOOL}], "tool_choice": "required"}}
RESPONSES = {"text": {"instructions": "Be brief.", "metadata": {"a": "b"}, "user": "u", "reasoning": {"effort": "low"}},
             "call": {"tools": [{"type": "function", **TOOL}], "tool_choice": {"type": "function", "name": "look_up"}},
             "schema": {"text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True}, "verbosity": "low"}}, "cut": {"max_output_tokens": 2}}
MESSAGES_API = {"text": {}, "call": {"tools": [{"name": "look_up", "input_schema": SCHEMA}], "tool_choice": {"type": "any"}}, "stop": {"stop_sequences": [" "]}}


def check(declared, value):
    pydantic.TypeAdapter(declared).validate_python(value)


def named_events(stream):
    return [json.loads(t) for _, kind, _, t in stream if kind == "data"]


@pytest.mark.parametrize("what", CHAT)
def test_chat(srv, what):
    body = {"messages": MESSAGES, **BASE, **CHAT[what]}
    check(openai.types.chat.ChatCompletion, post(srv, "/v1/chat/completions", body).json)
    with Stream(srv, "/v1/chat/completions", {**body, "stream_options": {"include_usage": True}}) as s:
        for c in s.data():
            check(openai.types.chat.ChatCompletionChunk, c)


@pytest.mark.parametrize("fields", [{}, {"logprobs": 2}])
def test_completions(srv, fields):
    body = {"prompt": ASK, **BASE, **fields}
    check(openai.types.Completion, post(srv, "/v1/completions", body).json)


@pytest.mark.parametrize("what", RESPONSES)
def test_responses(srv, what):
    body = {"input": ASK, "temperature": 0, "max_output_tokens": 60, **RESPONSES[what]}
    check(openai.types.responses.Response, post(srv, "/v1/responses", body).json)
    with Stream(srv, "/v1/responses", body) as s:
        for e in named_events(s):
            check(openai.types.responses.ResponseStreamEvent, e)


@pytest.mark.parametrize("what", MESSAGES_API)
def test_messages(srv, what):
    body = {"messages": MESSAGES, **BASE, **MESSAGES_API[what]}
    check(anthropic.types.Message, post(srv, "/v1/messages", body).json)
    with Stream(srv, "/v1/messages", body) as s:
        for e in named_events(s):
            if e["type"] != "ping":  # the package drops it
                check(anthropic.types.RawMessageStreamEvent, e)
    check(anthropic.types.MessageTokensCount, post(srv, "/v1/messages/count_tokens", {"messages": MESSAGES}).json)


def test_models(srv):
    (m,) = get(srv, "/v1/models").json["data"]
    check(openai.types.Model, m)
    check(anthropic.types.ModelInfo, m)
