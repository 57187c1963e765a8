"""What known programs send, with all of their fields: each is answered, or refused by name. SERVER.md section 2."""
import json

import pytest
from serverlib import Stream, chat, get, long_text, post, request

SHELL = {"type": "object", "properties": {"command": {"type": "array", "items": {"type": "string"}}, "workdir": {"type": "string"}, "timeout_ms": {"type": "number"}}, "required": ["command"], "additionalProperties": False}
READ = {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "additionalProperties": False, "required": ["file_path"],
        "properties": {"file_path": {"type": "string", "description": "The absolute path"}, "limit": {"type": "integer", "exclusiveMinimum": 0, "maximum": 9007199254740991}}}


def events(srv, path, body, headers=None):
    with Stream(srv, path, body, headers) as s:
        assert s.status == 200, s.resp.read()
        return [(n, json.loads(d)) for _, kind, n, d in s if kind == "data" and d != "[DONE]"]


# ---- Claude Code

CLAUDE_HEADERS = {"authorization": "Bearer none", "x-api-key": "other", "anthropic-version": "2023-06-01", "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27", "anthropic-dangerous-direct-browser-access": "true",
                  "user-agent": "claude-cli/2.1.37 (external, cli)", "x-app": "cli", "x-stainless-lang": "js", "x-stainless-retry-count": "0", "x-stainless-timeout": "600"}


def claude(messages, **fields):
    ephemeral = {"type": "ephemeral", "ttl": "1h"}
    return {"model": "claude-opus-4-6", "max_tokens": 32000, "metadata": {"user_id": "user_0_account__session_1"}, "temperature": 1, "seed": 1, "messages": messages,
            "system": [{"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.37.0d9; cch=0a1b2;"}, {"type": "text", "text": "You are Claude Code.", "cache_control": ephemeral}, {"type": "text", "text": long_text(80), "cache_control": {**ephemeral, "scope": "global"}}],
            "tools": [{"name": "Read", "description": "Reads a file.", "input_schema": READ, "eager_input_streaming": True}, {"name": "Bash", "input_schema": {"type": "object", "properties": {"command": {"type": "string"}}}, "cache_control": ephemeral}, {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}],
            "thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}, "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}, "stop_sequences": None, "thinking_budget_tokens": 8, **fields}


CLAUDE_TURNS = [{"role": "user", "content": [{"type": "text", "text": "<system-reminder>\nToday is Friday.\n</system-reminder>"}, {"type": "text", "text": "What is in a.txt?", "cache_control": {"type": "ephemeral"}}]},
                {"role": "assistant", "content": [{"type": "thinking", "thinking": "Read it.", "signature": "Eq=="}, {"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "I read it."}, {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"file_path": "/a.txt"}, "caller": {"type": "direct"}}, {"type": "tool_use", "id": "toolu_2", "name": "Bash", "input": {}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "1\tone"}]}, {"type": "tool_result", "tool_use_id": "toolu_2", "content": "<tool_use_error>no command</tool_use_error>", "is_error": True, "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "Go on."}]}]


def test_claude_code(srv):
    ev = events(srv, "/v1/messages?beta=true", claude(CLAUDE_TURNS, max_tokens=12), CLAUDE_HEADERS)
    assert ev[0][0] == "message_start" and ev[-1][0] == "message_stop"
    n = post(srv, "/v1/messages/count_tokens?beta=true", {k: v for k, v in claude(CLAUDE_TURNS).items() if k in ("model", "messages", "system", "tools", "thinking")}, CLAUDE_HEADERS).json["input_tokens"]
    u = ev[0][1]["message"]["usage"]
    assert n == u["input_tokens"] + u["cache_read_input_tokens"]


def test_claude_code_looks_whether_the_server_is_there(srv):
    assert request(srv, "HEAD", "/").status == 200
    assert post(srv, "/v1/messages?beta=true", {"model": "claude-haiku-4-5", "max_tokens": 1, "messages": [{"role": "user", "content": "quota"}], "metadata": {"user_id": "u"}}, CLAUDE_HEADERS).status == 200


def test_an_image_of_a_tool_is_refused_by_its_place(srv):
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    for content, place in (([image], "messages[0].content[0].type"), ([{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "x"}, image]}], "messages[0].content[0].content[1].type")):
        r = post(srv, "/v1/messages", claude([{"role": "user", "content": content}]))
        assert r.status == 400 and place in r.json["error"]["message"], r


# ---- Codex

def codex(**fields):
    return {"model": "odmoe", "instructions": long_text(60), "stream": True, "store": False, "tool_choice": "auto", "parallel_tool_calls": True, "include": ["reasoning.encrypted_content"], "prompt_cache_key": "0199-a", "service_tier": None, "client_metadata": {"x-codex-installation-id": "a"},
            "reasoning": {"effort": "medium", "summary": "auto"}, "text": {"verbosity": "low"}, "temperature": 0, "max_output_tokens": 12,
            "tools": [{"type": "function", "name": "shell", "description": "Runs a command", "strict": False, "parameters": SHELL}, {"type": "function", "name": "update_plan", "strict": False, "parameters": {"type": "object", "properties": {}}},
                      {"type": "web_search", "external_web_access": False}, {"type": "image_generation", "output_format": "png"}, {"type": "local_shell"}],
            "input": [{"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "<permissions>none</permissions>"}]}, {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "<environment_context>\n  <cwd>/w</cwd>\n</environment_context>"}]},
                      {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "List the files."}]}, {"type": "reasoning", "summary": [{"type": "summary_text", "text": "ls"}], "content": None, "encrypted_content": None},
                      {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I list them."}], "phase": "commentary"}, {"type": "function_call", "id": "fc_1", "name": "shell", "arguments": "{\"command\":[\"ls\"]}", "call_id": "call_1"},
                      {"type": "function_call_output", "call_id": "call_1", "output": "a.txt\n"}, {"type": "function_call", "name": "shell", "arguments": "{}", "call_id": "call_2"}, {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "failed"}]}], **fields}


def test_codex(srv):
    ev = events(srv, "/v1/responses", codex(), {"authorization": "Bearer none", "originator": "codex_cli_rs", "session_id": "s", "accept": "text/event-stream", "x-codex-turn-metadata": "{}"})
    assert ev[0][0] == "response.created" and ev[-1][0] in ("response.completed", "response.incomplete")
    r = ev[-1][1]["response"]
    assert [t["name"] for t in r["tools"]] == ["shell", "update_plan"] and r["usage"]["total_tokens"] > 60


def test_a_second_turn_of_codex_finds_the_first(srv):
    first, later = codex(), codex()
    events(srv, "/v1/responses", first)
    later["input"] += [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "And now?"}]}]
    usage = events(srv, "/v1/responses", later)[-1][1]["response"]["usage"]
    assert usage["input_tokens_details"]["cached_tokens"] > 100


@pytest.mark.parametrize("fields,param", [({"tools": [{"type": "custom", "name": "apply_patch", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}}]}, "tools[0].type"), ({"input": [{"type": "custom_tool_call", "call_id": "c", "name": "apply_patch", "input": "x"}]}, "input[0].type"),
                                          ({"input": [{"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image", "image_url": "data:image/png;base64,AAAA"}]}]}, "input[0].output[0].type")])
def test_what_codex_may_send_and_is_refused_by_name(srv, fields, param):
    r = post(srv, "/v1/responses", {**codex(**fields), "stream": False})
    assert r.status == 400 and r.error["param"] == param, r


# ---- programs that speak chat

def chat_turns():
    return [{"role": "system", "content": "You are a coding agent.", "cache_control": {"type": "ephemeral"}}, {"role": "user", "content": [{"type": "text", "text": "<task>\nRead a.txt\n</task>"}, {"type": "text", "text": "<environment_details>\n</environment_details>"}]},
            {"role": "assistant", "content": "", "reasoning_content": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}], "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "read", "arguments": "{\"file_path\": \"a\"}"}, "index": 0}], "refusal": None, "annotations": [], "audio": None, "function_call": None},
            {"role": "tool", "tool_call_id": "call_1", "name": "read", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}, {"role": "user", "content": "Go on."}]


AGENT = {"model": "odmoe/x", "stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}, "temperature": 0, "max_tokens": 10, "tools": [{"type": "function", "function": {"name": "read", "description": "Read", "parameters": READ}}], "tool_choice": "auto", "parallel_tool_calls": True}


@pytest.mark.parametrize("fields", [{}, {"max_tokens": None, "max_completion_tokens": 10}, {"reasoning_effort": "high"}, {"thinking": {"type": "enabled", "budget_tokens": 4}}, {"thinking": {"type": "disabled", "clear_thinking": False}}, {"reasoning": {"effort": "low"}}, {"store": False, "metadata": {"chat_id": "x"}, "user": "u", "service_tier": "auto", "prompt_cache_key": "k", "verbosity": "low"},
                                    {"options": {"num_ctx": 4096}, "keep_alive": "5m", "session_id": "s", "chat_id": "c", "features": {"web_search": False}}, {"tools": None, "tool_choice": None, "functions": None, "response_format": {"type": "text"}, "logit_bias": None, "n": 1, "modalities": ["text"], "prediction": None}, {"logit_bias": {"5": None}}])
def test_agents_that_speak_chat(srv, fields):
    ev = [d for _, d in events(srv, "/v1/chat/completions", {"messages": chat_turns(), **AGENT, **fields}, {"authorization": "Bearer none", "http-referer": "https://cline.bot", "x-title": "Cline"})]
    assert ev[-1]["choices"] == [] and ev[-1]["usage"]["completion_tokens"] <= 10 and ev[-2]["choices"][0]["finish_reason"]


def test_thinking_of_chat_is_checked(srv):
    assert chat(srv, thinking={"type": "loud"}).error["param"] == "thinking.type"
    assert chat(srv, guided_json={}).error["param"] == "guided_json" and chat(srv, guided_decoding_backend="x").error["param"] == "guided_decoding_backend"


def test_open_webui_asks_for_models_and_titles(srv):
    assert get(srv, "/v1/models", {"authorization": "Bearer none"}).json["data"][0]["id"]
    r = chat(srv, "### Task:\nGenerate a concise title.", stream=False, max_tokens=None, max_completion_tokens=8, metadata={"task": "title_generation", "chat_id": "1"})
    assert r.status == 200 and r.json["usage"]["completion_tokens"] <= 8


def test_continue_completes_between_two_texts(srv):
    """It writes the tokens of the gap itself, and sends many stop strings."""
    body = {"model": "odmoe", "prompt": "<|fim_prefix|>def f(<|fim_suffix|>\n<|fim_middle|>", "max_tokens": 8, "temperature": 0.01, "stream": True, "stop": ["<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<|im_start|>", "<|im_end|>", "/src/", "#- coding: utf-8", "```", "\n\n"], "presence_penalty": None, "frequency_penalty": None}
    assert events(srv, "/v1/completions", body)
