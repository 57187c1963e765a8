"""Requests of every protocol, and what becomes of them when somebody or something damages them."""
import copy

SCHEMA = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}, "b": {"type": "array", "items": {"type": "integer"}, "maxItems": 2}}, "required": ["a"], "additionalProperties": False}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]
SEEDS = [("/v1/chat/completions", {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "hi"}]}], "max_tokens": 2, "temperature": 0.5, "seed": 1, "stop": ["x"], "logprobs": True, "top_logprobs": 2, "stream": False}),
         ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3, "stream": True, "stream_options": {"include_usage": True}, "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}}),
         ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}, {"role": "tool", "tool_call_id": "c", "content": "r"}], "tools": TOOLS, "tool_choice": "required", "max_tokens": 3}),
         ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "grammar": 'root ::= "a" | [b-d]{2,3} x?\nx ::= "y"*', "max_tokens": 2, "logit_bias": {"5": 1}}),
         ("/v1/completions", {"prompt": ["a", "b"], "max_tokens": 2, "logprobs": 1, "stop": "x", "suffix": None}), ("/v1/completions", {"prompt": [1, 2, 3], "max_tokens": 1, "echo": False, "stream": True}),
         ("/v1/messages", {"model": "m", "max_tokens": 2, "system": [{"type": "text", "text": "s"}], "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "tool_result", "tool_use_id": "t", "content": "y"}]}], "tools": [{"name": "f", "input_schema": SCHEMA}], "tool_choice": {"type": "auto"}, "stream": True}),
         ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "x"}]}), ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}, {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}, {"type": "function_call_output", "call_id": "c", "output": "o"}], "max_output_tokens": 2, "stream": True, "text": {"format": {"type": "text"}}}),
         ("/tokenize", {"content": "abc", "with_pieces": True}), ("/detokenize", {"tokens": [1, 2, 3]}), ("/apply-template", {"messages": [{"role": "user", "content": "x"}], "tools": TOOLS})]
VALUES = [None, True, False, 0, -1, 1, 2 ** 31, 2 ** 53, -2 ** 63, 1e308, 0.1, "", "x", "\u0000", "\ud7ff\U0010ffff", "a" * 5000, [], {}, [None], [[[]]], {"": None}, {"$ref": "#"}, {"type": "object"}, "root ::= root", '{"a":', [1, "2", {}], "file:///etc/passwd", "<|im_end|>", {"type": "image_url", "image_url": {"url": "x"}}]


def places(o, path=()):
    yield path
    for k, v in (o.items() if isinstance(o, dict) else enumerate(o) if isinstance(o, list) else ()):
        yield from places(v, path + (k,))


def mutate(R, o):
    o = copy.deepcopy(o)
    for _ in range(R.choice([1, 1, 1, 2, 3])):
        ps = [p for p in places(o) if p]
        if not ps:
            return o
        p = R.choice(ps)
        at = o
        for k in p[:-1]:
            at = at[k]
        kind = R.randrange(6)
        if kind == 0:
            del at[p[-1]]
        elif kind == 1 and isinstance(at, dict):
            at[R.choice(["tools", "messages", "stop", "role", "content", "type", "grammar", "response_format", "x"])] = at.pop(p[-1])
        elif kind == 2 and isinstance(at, list):
            at.extend(copy.deepcopy(at[p[-1]]) for _ in range(R.choice([1, 3, 50])))
        elif kind == 3:
            at[p[-1]] = [at[p[-1]]]
        else:
            at[p[-1]] = copy.deepcopy(R.choice(VALUES))
    return o


def corrupt(R, b):
    b = bytearray(b)
    for _ in range(R.randrange(1, 6)):
        i = R.randrange(len(b))
        k = R.randrange(4)
        if k == 0:
            b[i] = R.randrange(256)
        elif k == 1:
            del b[i:i + R.randrange(1, 20)]
        elif k == 2:
            b[i:i] = bytes(R.randrange(256) for _ in range(R.randrange(1, 9)))
        else:
            b[i:i] = R.choice([b"\r\n", b"\r\n\r\n", b"{", b"]", b'"', b"\\u0000", b"\\ud800", b"\xff", b"0" * 40])
        if not b:
            b = bytearray(b"{")
    return bytes(b)
