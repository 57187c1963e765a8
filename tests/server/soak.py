#!/usr/bin/env python3
"""All kinds of clients at once, for as long as one likes: what the server promises, held over time.

usage: soak.py [--seconds N] [--requests N] [--ram SIZE] [--context N] [--streams N] [--pause S] [--seed N] [--no-cap] [--json FILE]

Starts `odmoe serve` (ODMOE, ODMOE_MODEL: serverlib.py) with N sequences in a memory control group of --ram + 5% (as root; without it the
group is left out), and sends a mix: the four protocols, streamed and not, tools, schemas, prompts up to the context; clients that leave,
slow ones, garbage, broken HTTP, bodies that are too large. Loopback only. What must hold:

- each request that is right gets an answer that is right, or a refusal that docs/server.md lists; what was asked at the start gets the same
  text at any time, whatever runs beside it
- what is wrong gets a status that docs/server.md lists, or the end of the connection
- anonymous memory stays within --ram + 16 MiB, and does not grow; nothing is killed; descriptors and threads come back
- at the end every sequence is free, /health is ok, SIGTERM ends it with status 0, and no prompt is in the log

Prints what was sent and what was measured; status 1 where something did not hold.
"""
import argparse, json, os, random, re, shutil, signal, socket, statistics, struct, sys, tempfile, threading, time
from contextlib import contextmanager

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import mutations
from serverlib import MIB, SANITIZER, Server, Stream, exchange, get, idle, long_text, parallel, post, raw_post, read_all, request, wait_until

STATUSES = {200, 204, 400, 401, 403, 404, 405, 408, 411, 413, 415, 429, 431, 501, 503, 505}
SECRET = "quince-orchard"  # in every prompt, never in the log
SCHEMA = {"type": "object", "properties": {"colour": {"enum": ["red", "green"]}, "n": {"type": "integer", "minimum": 0, "maximum": 99}},
          "required": ["colour", "n"], "additionalProperties": False}
CLIENT_TIMEOUT = 15  # more than a right client stands still between connecting and sending
WAIT = 600  # seconds that a right request may take on a busy machine


# ---- the group

@contextmanager
def memory_group(limit):
    """Words that put a command into a memory control group, and a function for (peak bytes, killed)."""
    v1 = os.path.isdir("/sys/fs/cgroup/memory")
    path = f"/sys/fs/cgroup/{'memory/' if v1 else ''}odmoe-soak-{os.getpid()}"
    os.mkdir(path)

    def read(name):
        with open(f"{path}/{name}") as f:
            return f.read()

    def put(name, value):
        with open(f"{path}/{name}", "w") as f:
            f.write(str(value))

    def state():
        events = dict(line.split() for line in read("memory.oom_control" if v1 else "memory.events").splitlines())
        try:
            peak = int(read("memory.max_usage_in_bytes" if v1 else "memory.peak"))
        except OSError:  # an old kernel
            peak = 0
        return peak, int(events["oom_kill"])

    try:
        put("memory.limit_in_bytes" if v1 else "memory.max", limit)
        if not v1 and os.path.exists(f"{path}/memory.swap.max"):
            put("memory.swap.max", 0)
        yield ["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', path], state
    finally:
        for _ in range(50):
            try:
                os.rmdir(path)
                break
            except OSError:
                time.sleep(0.1)


def can_cap():
    """May this process make such groups?"""
    try:
        with memory_group(1 << 30):
            return True
    except OSError:
        return False


# ---- what is measured

class Watch(threading.Thread):
    """Samples of the process: (seconds, anonymous bytes, descriptors, threads)."""

    def __init__(self, server, every):
        super().__init__(daemon=True)
        self.server, self.every, self.samples, self.done = server, every, [], threading.Event()
        self.begun = time.time()

    def sample(self):
        pid = self.server.pid
        return time.time() - self.begun, self.server.anon(), len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))

    def run(self):
        while not self.done.wait(self.every):
            try:
                self.samples.append(self.sample())
            except (OSError, StopIteration):
                return  # it has ended: somebody else notices

    def growth(self):
        """Bytes by which the middle sample of the last quarter is above that of the second."""
        n = len(self.samples) // 4
        middle = lambda s: statistics.median(x[1] for x in s)
        return middle(self.samples[3 * n:]) - middle(self.samples[n:2 * n]) if n else 0


class Tally:
    """Requests by kind and outcome, and what went wrong."""

    def __init__(self, say):
        self.lock, self.kinds, self.problems, self.say = threading.Lock(), {}, [], say

    def count(self, kind, outcome):
        with self.lock:
            of = self.kinds.setdefault(kind, {})
            of[outcome] = of.get(outcome, 0) + 1

    def problem(self, text):
        with self.lock:
            self.problems.append(text)
        self.say("PROBLEM: " + text)

    def total(self):
        with self.lock:
            return sum(sum(k.values()) for k in self.kinds.values())


# ---- requests that are right: each returns its outcome, or fails an assertion

def refused(status, headers, body):
    """Is it a refusal that a right request may get? Fails where its form is wrong."""
    if status not in (429, 503):
        return False
    error = json.loads(body)["error"]
    assert error["message"] and 1 <= int(headers["retry-after"]) <= 60, (status, headers, body)
    assert error["type"] in ("rate_limit_error", "server_error", "overloaded_error"), error
    return True


def ask(s, path, body, fields):
    """(outcome, reply as JSON or None); a 200 has the fields."""
    r = post(s, path, body, timeout=WAIT)
    if refused(r.status, r.headers, r.body):
        return str(r.status), None
    assert r.status == 200, f"{path}: {r} for {json.dumps(body)[:600]}"
    out = r.json
    assert all(f in out for f in fields), f"{path}: {out}"
    return "200", out


def stream(s, path, body, after=None):
    """(outcome, [(event name, JSON)] or None). after: leave when so many events have come."""
    st = Stream(s, path, body, timeout=WAIT)
    try:
        if st.status != 200:
            body_ = st.resp.read()
            assert refused(st.status, st.headers, body_), f"{path}: {st.status} {body_[:600]!r}"
            return str(st.status), None
        events, ended = [], False
        for _, kind, name, data in st:
            if kind == "comment":
                continue
            ended = data == "[DONE]"
            if not ended:
                events.append((name, json.loads(data)))
            if after is not None and len(events) >= after:
                return "left", None
        assert "error" not in events[-1][1], f"{path}: {events[-1][1]}"
        assert ended or path in ("/v1/messages", "/v1/responses"), f"{path}: no [DONE]"
        return "200", events
    finally:
        st.close()


def user(text):
    return [{"role": "user", "content": text}]


def words(R, most):
    return f"{SECRET} {R.randrange(1000)} " + long_text(R.randrange(1, most), R.randrange(200))


def limits(R, tokens=60):
    out = {"max_tokens": R.randrange(1, tokens), "temperature": R.choice([0, 0.7, 1.3])}
    if R.random() < 0.5:
        out.update(R.choice([{"top_p": 0.9}, {"min_p": 0.05}, {"seed": R.randrange(9)}, {"stop": ["the", "\n"]}, {"ignore_eos": True},
                             {"frequency_penalty": 0.5}, {"logit_bias": {"5": -100}}, {"cache_prompt": False}, {"repeat_penalty": 1.1}]))
    return out


def right_choice(out):
    (choice,) = out["choices"]
    assert choice["finish_reason"] in ("stop", "length", "tool_calls"), out
    assert out["usage"]["total_tokens"] == out["usage"]["prompt_tokens"] + out["usage"]["completion_tokens"], out
    return choice


def chat(s, R):
    outcome, out = ask(s, "/v1/chat/completions", {"messages": user(words(R, 60)), **limits(R)}, ("id", "choices", "usage", "timings"))
    if out:
        assert isinstance(right_choice(out)["message"]["content"], str), out
    return outcome


def chat_stream(s, R):
    body = {"messages": user(words(R, 60)), "stream_options": {"include_usage": True}, **limits(R)}
    outcome, events = stream(s, "/v1/chat/completions", body)
    if events:
        assert len({e["id"] for _, e in events}) == 1 and events[-1][1]["choices"] == [] and events[-1][1]["usage"]["completion_tokens"] > 0
        assert events[0][1]["choices"][0]["delta"]["role"] == "assistant" and events[-2][1]["choices"][0]["finish_reason"] in ("stop", "length")
    return outcome


def chat_turns(s, R):
    """A conversation that grows, as an agent's does: most of each prompt is known."""
    messages = [{"role": "system", "content": f"You know much of the {SECRET}."}]
    outcome = "200"
    for _ in range(R.randrange(2, 6)):
        messages += user(words(R, 50))
        outcome, out = ask(s, "/v1/chat/completions", {"messages": messages, "temperature": 0, "max_tokens": 20}, ("choices",))
        if not out:
            break
        messages.append({"role": "assistant", "content": right_choice(out)["message"]["content"]})
    return outcome


def chat_long(s, R):
    """Prompts up to the context, and beyond it."""
    text = words(R, s.ctx * 3 // 4)
    r = post(s, "/v1/chat/completions", {"messages": user(text), "max_tokens": 8}, timeout=WAIT)
    if refused(r.status, r.headers, r.body):
        return str(r.status)
    if r.status == 400:
        assert r.error["code"] == "context_length_exceeded" and r.error["n_prompt_tokens"] >= r.error["n_ctx"] == s.ctx, r
        return "400 too long"
    assert r.status == 200 and r.json["usage"]["total_tokens"] <= s.ctx, r
    return "200"


def chat_schema(s, R):
    body = {"messages": user(words(R, 30)), "max_tokens": 60, "response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}}}
    if R.random() < 0.5:
        outcome, events = stream(s, "/v1/chat/completions", body)
        text = events and "".join(e["choices"][0]["delta"].get("content") or "" for _, e in events if e["choices"])
        finish = events and events[-1][1]["choices"][0]["finish_reason"]
    else:
        outcome, out = ask(s, "/v1/chat/completions", body, ("choices",))
        text, finish = (right_choice(out)["message"]["content"], out["choices"][0]["finish_reason"]) if out else (None, None)
    if text is not None and finish == "stop":
        value = json.loads(text)
        assert sorted(value) == ["colour", "n"] and value["colour"] in ("red", "green") and 0 <= value["n"] <= 99, text
    return outcome


def chat_tools(s, R):
    tools = [{"type": "function", "function": {"name": f"paint_{R.randrange(3)}", "description": SECRET, "parameters": SCHEMA, "strict": True}}]
    body = {"messages": user(words(R, 30)), "max_tokens": 90, "tools": tools, "tool_choice": R.choice(["required", "auto", "none"])}
    outcome, out = ask(s, "/v1/chat/completions", body, ("choices",))
    if out and right_choice(out)["finish_reason"] == "tool_calls":
        for call in out["choices"][0]["message"]["tool_calls"]:
            assert call["function"]["name"] == tools[0]["function"]["name"], out
            assert sorted(json.loads(call["function"]["arguments"])) == ["colour", "n"], out
    return outcome


def chat_grammar(s, R):
    body = {"messages": user(words(R, 30)), "max_tokens": 20, "grammar": 'root ::= ("ba" | "na"){1,4} "!"'}
    outcome, out = ask(s, "/v1/chat/completions", body, ("choices",))
    if out and right_choice(out)["finish_reason"] == "stop":
        assert re.fullmatch("(ba|na){1,4}!", out["choices"][0]["message"]["content"]), out
    return outcome


def chat_logprobs(s, R):
    body = {"messages": user(words(R, 30)), "max_tokens": 12, "logprobs": True, "top_logprobs": R.randrange(21)}
    outcome, out = ask(s, "/v1/chat/completions", body, ("choices",))
    if out:
        choice = right_choice(out)
        got = b"".join(bytes(e["bytes"]) for e in choice["logprobs"]["content"]) if choice["logprobs"] else b""
        assert got.decode("utf-8", "replace").lstrip().startswith(choice["message"]["content"].lstrip()), out
    return outcome


def completions(s, R):
    prompt = R.choice([words(R, 60), [words(R, 10), words(R, 10)], [R.randrange(300, 4000) for _ in range(R.randrange(1, s.ctx - 8))]])
    outcome, out = ask(s, "/v1/completions", {"prompt": prompt, **limits(R, 30)}, ("choices", "usage"))
    if out:
        assert len(out["choices"]) == (2 if isinstance(prompt[0], str) and isinstance(prompt, list) else 1), out
    return outcome


def completions_stream(s, R):
    outcome, events = stream(s, "/v1/completions", {"prompt": words(R, 100), **limits(R)})
    if events:
        assert all(e["object"] == "text_completion" for _, e in events)
    return outcome


def messages(s, R):
    body = {"model": "any", "system": f"Speak of the {SECRET}.", "messages": user(words(R, 60)), "max_tokens": R.randrange(1, 60)}
    outcome, out = ask(s, "/v1/messages", body, ("id", "content", "stop_reason", "usage"))
    if out:
        assert out["type"] == "message" and out["stop_reason"] in ("end_turn", "max_tokens"), out
    return outcome


def messages_stream(s, R):
    outcome, events = stream(s, "/v1/messages", {"messages": user(words(R, 60)), "max_tokens": R.randrange(1, 60)})
    if events:
        names = [n for n, _ in events if n != "ping"]
        assert names[0] == "message_start" and names[-2:] == ["message_delta", "message_stop"], names
        assert names.count("content_block_start") == names.count("content_block_stop"), names
        assert all(n == e["type"] for n, e in events)
    return outcome


def messages_tools(s, R):
    body = {"messages": user(words(R, 30)), "max_tokens": 90, "tools": [{"name": "paint", "input_schema": SCHEMA}], "tool_choice": {"type": "any"}}
    outcome, events = stream(s, "/v1/messages", body)
    if events:
        text = "".join(e["delta"]["partial_json"] for n, e in events if n == "content_block_delta" and e["delta"]["type"] == "input_json_delta")
        stop = next(e["delta"]["stop_reason"] for n, e in events if n == "message_delta")
        assert stop == "max_tokens" or (stop == "tool_use" and text), events[-3:]
    return outcome


def count_tokens(s, R):
    outcome, out = ask(s, "/v1/messages/count_tokens", {"messages": user(words(R, 200))}, ("input_tokens",))
    assert out is None or out["input_tokens"] > 3, out
    return outcome


def responses(s, R):
    body = {"input": words(R, 60), "instructions": f"Speak of the {SECRET}.", "max_output_tokens": R.randrange(1, 60)}
    outcome, out = ask(s, "/v1/responses", body, ("id", "output", "usage"))
    if out:
        assert out["status"] in ("completed", "incomplete"), out
    return outcome


def responses_stream(s, R):
    body = {"input": user(words(R, 60)), "max_output_tokens": R.randrange(1, 60)}
    if R.random() < 0.4:
        body.update(tools=[{"type": "function", "name": "paint", "parameters": SCHEMA}], tool_choice=R.choice(["required", "auto"]))
    outcome, events = stream(s, "/v1/responses", body)
    if events:
        assert [e["sequence_number"] for _, e in events] == list(range(len(events)))
        assert events[0][0] == "response.created" and events[-1][0] in ("response.completed", "response.incomplete"), events[-1]
    return outcome


def tokenize(s, R):
    text = words(R, 300)
    outcome, out = ask(s, "/tokenize", {"content": text, "parse_special": False}, ("tokens", "count"))
    if out:
        outcome, back = ask(s, "/detokenize", {"tokens": out["tokens"]}, ("content",))
        assert not back or back["content"] == text
    return outcome


def template(s, R):
    outcome, out = ask(s, "/apply-template", {"messages": user(words(R, 60))}, ("prompt",))
    assert not out or SECRET in out["prompt"]
    return outcome


def looks(s, R):
    """What monitoring and the page ask for: never any text of a prompt."""
    path = R.choice(["/v1/models", "/health", "/metrics", "/slots", "/props", "/stats", "/stats/experts", "/", "/app.js", "/app.css"])
    r = request(s, R.choice(["GET", "GET", "HEAD"]), path, timeout=WAIT)
    assert (r.status == 200 or r.status == 503 and path != "/health") and SECRET not in r.text, (path, r)
    return str(r.status)


def refusals(s, R):
    """Right HTTP, wrong requests: refused by name."""
    ms = user(words(R, 10))
    path, body, status = R.choice([("/v1/chat/completions", {"messages": ms, "n": 2}, 400), ("/v1/chat/completions", {"messages": []}, 400), ("/v1/nothing", {}, 404),
                                   ("/v1/chat/completions", {"messages": ms, "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}}}, 400),
                                   ("/v1/chat/completions", {"messages": ms, "grammar": "root ::= ("}, 400), ("/v1/embeddings", {"input": SECRET}, 501),
                                   ("/v1/messages", {"messages": ms, "max_tokens": 2, "mcp_servers": [{"type": "url"}]}, 400), ("/v1/responses", {"input": "x", "previous_response_id": "r"}, 400),
                                   ("/v1/completions", {"prompt": [10 ** 9]}, 400), ("/detokenize", {"tokens": [-1]}, 400), ("/metrics", {}, 405)])
    r = post(s, path, body, timeout=WAIT)
    if refused(r.status, r.headers, r.body):
        return str(r.status)
    assert r.status == status and r.error["message"], (path, body, r)
    return str(status)


FIXED = [("/v1/chat/completions", {"messages": user(f"Tell me about the {SECRET}."), "temperature": 0, "max_tokens": 40, "ignore_eos": True}),
         ("/v1/chat/completions", {"messages": user(long_text(300, 7)), "temperature": 1.1, "seed": 11, "max_tokens": 30, "ignore_eos": True}),
         ("/v1/completions", {"prompt": long_text(150, 60), "temperature": 0, "max_tokens": 40}),
         ("/v1/messages", {"messages": user(long_text(40, 90)), "temperature": 0, "max_tokens": 40}),
         ("/v1/responses", {"input": long_text(60, 3), "temperature": 0, "max_output_tokens": 40})]


def text_of(out):
    """What an answer says, whatever its protocol."""
    if "choices" in out:
        return out["choices"][0].get("text") or out["choices"][0]["message"]["content"]
    return [c["text"] for item in out.get("output", [out]) for c in item["content"]]


class Same:
    """Asks what was asked when nobody else was there."""

    def __init__(self, s):
        self.want = [text_of(ask(s, path, body, ())[1]) for path, body in FIXED]

    def __call__(self, s, R):
        i = R.randrange(len(FIXED))
        outcome, out = ask(s, *FIXED[i], ())
        assert not out or text_of(out) == self.want[i], f"{FIXED[i]}: {text_of(out)!r}, alone it was {self.want[i]!r}"
        return outcome


# ---- clients that leave, are slow, or send what is no request

def status_of(out):
    """The outcome of bytes that came back: nothing, or the status of a reply that docs/server.md lists."""
    if not out:
        return "closed"
    m = re.match(rb"HTTP/1\.[01] (\d\d\d) ", out)
    assert m and int(m[1]) in STATUSES, out[:300]
    return m[1].decode()


def sends(s, data, timeout=CLIENT_TIMEOUT + 15, half_close=False):
    try:
        return status_of(exchange(s, data, timeout, half_close))
    except OSError:
        return "closed"


def leaves_a_stream(s, R):
    path, body = R.choice([("/v1/chat/completions", {"messages": user(words(R, 60)), "max_tokens": 300, "ignore_eos": True}),
                           ("/v1/completions", {"prompt": words(R, 300), "max_tokens": 300}),
                           ("/v1/messages", {"messages": user(words(R, 60)), "max_tokens": 300}),
                           ("/v1/responses", {"input": words(R, 60), "max_output_tokens": 300})])
    return stream(s, path, body, after=R.randrange(1, 30))[0]


def leaves_at_once(s, R):
    """In the queue, in the prompt, or soon after; by FIN or RST; streamed or not."""
    body = {"messages": user(words(R, s.ctx // 2)), "max_tokens": 200, "ignore_eos": True, "stream": R.random() < 0.5}
    c = s.connect(20)
    c.sendall(raw_post("/v1/chat/completions", body))
    time.sleep(R.choice([0, 0.05, 0.3, 1, 2]))
    if R.random() < 0.5:
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.close()
    return "left"


def leaves_in_the_body(s, R):
    data = raw_post("/v1/chat/completions", {"messages": user(words(R, 100))})
    c = s.connect(20)
    c.sendall(data[:R.randrange(1, len(data))])
    time.sleep(R.choice([0, 0.2]))
    c.close()
    return "left"


def half_closes(s, R):
    return sends(s, raw_post("/v1/chat/completions", {"messages": user(words(R, 30)), "max_tokens": 50}), half_close=True)


def garbage(s, R):
    data = R.randbytes(R.randrange(1, 4000))
    return sends(s, R.choice([data, b"GET / HTTP/1.1\r\n" + data, raw_post("/v1/chat/completions", data), b"\x16\x03\x01\x02\x00\x01" + data, b"\r\n" * 500]), half_close=True)


def broken_http(s, R):
    path, body = R.choice(mutations.SEEDS)
    return sends(s, mutations.corrupt(R, raw_post(path, body, headers=[("Connection", "close")])), half_close=R.random() < 0.7)


def bad_json(s, R):
    path, body = R.choice(mutations.SEEDS)
    r = post(s, path, mutations.corrupt(R, json.dumps(body).encode()), timeout=WAIT)
    assert r.status in STATUSES and (r.status < 400 or r.error["message"]), r
    return str(r.status)


def mutated(s, R):
    path, body = R.choice(mutations.SEEDS)
    r = post(s, path, mutations.mutate(R, body), timeout=WAIT)
    assert r.status in STATUSES and (r.status < 400 or r.error["message"]), r
    return str(r.status)


def large_body(s, R):
    """Beyond --max-body: by its length, or by and by."""
    if R.random() < 0.5:
        return sends(s, b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n{")
    c = s.connect(20)
    try:
        c.sendall(b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(64):
            c.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
    except OSError:
        pass
    try:
        outcome = status_of(read_all(c, 20))
    finally:
        c.close()
    assert outcome in ("closed", "413"), outcome
    return outcome


def full_body(s, R):
    """As large as it may be: taken, or refused for want of memory."""
    r = post(s, "/tokenize", {"content": SECRET, "metadata": "x" * R.randrange(200_000, 900_000)}, timeout=WAIT)
    assert r.status in (200, 413, 503), r
    return str(r.status)


def large_headers(s, R):
    return sends(s, b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + R.choice([b"X: " + b"y" * 100_000 + b"\r\n", b"".join(b"X-%d: %s\r\n" % (i, b"z" * 200) for i in range(400))]) + b"\r\n")


def foreign_page(s, R):
    r = post(s, "/v1/chat/completions", {"messages": user(SECRET)}, {"Origin": "http://elsewhere.example"})
    assert r.status == 403 or refused(r.status, r.headers, r.body), r
    return str(r.status)


def slow_sender(s, R):
    """A byte now and then, in the header lines or the body, until it is cut off."""
    c = s.connect(60)
    begun = time.time()
    try:
        c.sendall(R.choice([b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{"]))
        while time.time() - begun < 60:
            c.sendall(b" ")
            c.settimeout(0.3)
            try:
                out = c.recv(4096)
                return status_of(out)
            except TimeoutError:
                pass
        raise AssertionError("a slow client was not cut off within a minute")
    except OSError:
        return "closed"
    finally:
        c.close()


def slow_reader(s, R):
    """Reads a little now and then, or nothing at all."""
    c = socket.socket()
    c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    c.settimeout(60)
    c.connect((s.host, s.port))
    begun, reads = time.time(), R.random() < 0.5
    try:
        c.sendall(raw_post("/v1/chat/completions", {"messages": user(words(R, 30)), "max_tokens": 400, "ignore_eos": True, "stream": True, "logprobs": True, "top_logprobs": 20}))
        while time.time() - begun < CLIENT_TIMEOUT + 10:
            time.sleep(0.5)
            if reads and not c.recv(200):
                return "closed"
        return "left"
    except OSError:
        return "closed"
    finally:
        c.close()


def idle_client(s, R):
    """Connects and says nothing."""
    c = s.connect(60)
    try:
        return status_of(read_all(c, CLIENT_TIMEOUT + 20))
    finally:
        c.close()


RIGHT = [(6, chat), (8, chat_stream), (2, chat_turns), (3, chat_long), (3, chat_schema), (3, chat_tools), (1, chat_grammar), (2, chat_logprobs), (3, completions),
         (2, completions_stream), (3, messages), (3, messages_stream), (2, messages_tools), (1, count_tokens), (3, responses), (3, responses_stream), (2, tokenize), (1, template),
         (3, looks), (2, refusals)]
WRONG = [(5, leaves_a_stream), (4, leaves_at_once), (2, leaves_in_the_body), (2, half_closes), (3, garbage), (3, broken_http), (3, bad_json), (4, mutated), (2, large_body),
         (1, full_body), (1, large_headers), (1, foreign_page)]
SLOW = [(2, slow_sender), (2, slow_reader), (1, idle_client)]


# ---- the whole

def fill(s, streams):
    """Use all that there is room for: contexts, experts, prefixes. What grows from then on is a leak, however slow the machine is."""
    R = random.Random(0)
    for _ in range(2):
        parallel([lambda ids=[R.randrange(300, 4000) for _ in range(s.ctx - 12)]: ask(s, "/v1/completions", {"prompt": ids, "max_tokens": 8, "ignore_eos": True}, ()) for _ in range(streams)])


def work(s, tally, table, R, goes_on, pause):
    """Requests of a table, one by one, until the time is up or the server has died."""
    weights, kinds = [w for w, _ in table], [k for _, k in table]
    while goes_on() and s.alive() and len(tally.problems) < 20:
        kind = R.choices(kinds, weights)[0]
        name = getattr(kind, "__name__", "same_text").replace("_", " ")
        outcome = "wrong"
        try:
            outcome = kind(s, R)
            tally.count(name, outcome)
        except Exception as e:  # whatever it is, it belongs into the report
            tally.count(name, "wrong")
            tally.problem(f"{name}: {type(e).__name__}: {str(e)[:1200]}")
        time.sleep(R.random() * 2 * pause + (1 if outcome in ("429", "503") else 0))


def settled(s, watch, at_start):
    """Wait until nothing of the clients is left; the last sample."""
    wait_until(lambda: watch.sample()[2:] == at_start[2:], step=0.5)
    return watch.sample()


def check_end(s, watch, tally, same, at_start):
    """What must hold when all clients have gone."""
    if not idle(s, 60):
        tally.problem("requests still run or wait")
    for slot in get(s, "/slots").json:
        if slot["is_processing"] or slot["state"] != "idle":
            tally.problem(f"a sequence is not free: {slot}")
    for i, (path, body) in enumerate(FIXED):
        if text_of(ask(s, path, body, ())[1]) != same.want[i]:
            tally.problem(f"{path}: another text than at the start")
    if get(s, "/health").json != {"status": "ok"}:
        tally.problem("/health is not ok")
    if not wait_until(lambda: s.metric("http_connections") == 1):
        tally.problem(f"{s.metric('http_connections'):.0f} connections are still counted")
    last = settled(s, watch, at_start)
    if last[2] > at_start[2] or last[3] > at_start[3]:
        tally.problem(f"{last[2]} descriptors and {last[3]} threads, at the start {at_start[2]} and {at_start[3]}")
    return last


def run(seconds, ram="64MiB", context=1024, streams=8, pause=0.2, seed=1, cap=True, requests=0, say=lambda text: None):
    """The report: a dict with `problems`, empty where everything held."""
    tally = Tally(say)
    folder = tempfile.mkdtemp(prefix="odmoe-soak-")
    budget = int(float(ram[:-3]) * MIB)
    report = {"seconds": seconds, "ram": ram, "context": context, "streams": streams, "cap_bytes": budget * 105 // 100 if cap else None}
    options = ["--queue", 4, "--client-timeout", CLIENT_TIMEOUT, "--keepalive", 2, "--log", f"{folder}/log", "--cache-dir", f"{folder}/prefixes", "--cache-disk", "64MiB", "--cache-ram", "2MiB"]

    def inside(before, group):
        s = Server(*options, ram=ram, ctx=context, parallel=streams, before=before)
        try:
            same = Same(s)
            fill(s, streams)
            watch = Watch(s, min(1, seconds / 100))
            idle(s)
            wait_until(lambda: s.metric("http_connections") == 1)
            first = []
            for _ in range(20):  # the last connections go
                first.append(watch.sample())
                time.sleep(0.1)
            at_start = min(first, key=lambda x: x[2:])
            watch.start()
            end = time.time() + seconds
            goes_on = lambda: time.time() < end or (tally.total() < requests and time.time() < end + WAIT)
            tables = [[(3, same)] + RIGHT] * (streams + 2) + [WRONG] * 4 + [SLOW] * 3
            threads = [threading.Thread(target=work, args=(s, tally, t, random.Random(seed * 1000 + i), goes_on, pause), daemon=True) for i, t in enumerate(tables)]
            for t in threads:
                t.start()
            while any(t.is_alive() for t in threads) and time.time() < end + 2 * WAIT:
                time.sleep(min(30, seconds / 4))
                say(f"{time.time() - watch.begun:.0f} s: {tally.total()} requests, {len(tally.problems)} problems, anonymous {s.anon() / MIB:.1f} MiB" if s.alive() else "it has died")
            watch.done.set()
            watch.join()
            if any(t.is_alive() for t in threads):
                tally.problem("a request hangs")
            if s.alive():
                last = check_end(s, watch, tally, same, at_start)
                report["metrics"] = {k: v for k, v in s.metrics().items() if k.startswith(("odmoe_requests", "odmoe_passes", "odmoe_generated", "odmoe_prompt_", "odmoe_prefix", "odmoe_expert_e", "odmoe_pass_sequences_"))}
                begun = time.time()
                if (status := s.stop(timeout=60)) != 0:
                    tally.problem(f"status {status} after SIGTERM")
                report.update(start=at_start[1:], last=last[1:], stop_seconds=round(time.time() - begun, 2))
            else:
                tally.problem(f"it ended with {s.proc.returncode}: {s.stderr()[-800:]}")
            if s.stderr():
                tally.problem(f"on standard error: {s.stderr()[:400]}")
            top = max(x[1] for x in watch.samples)
            report.update(anonymous_peak=top, anonymous_growth=watch.growth(), descriptors_peak=max(x[2] for x in watch.samples), threads_peak=max(x[3] for x in watch.samples), samples=len(watch.samples))
            if not SANITIZER and top > budget + 16 * MIB:
                tally.problem(f"{top / MIB:.1f} MiB of anonymous memory with a budget of {ram}")
            if not SANITIZER and watch.growth() > 2 * MIB:
                tally.problem(f"anonymous memory grows: by {watch.growth() / MIB:.1f} MiB from the second quarter to the last")
            if group:
                report["group_peak"], killed = group()
                if killed:
                    tally.problem(f"the kernel killed {killed} processes of the group")
            with open(f"{folder}/log") as f:
                log = f.read()
            report["log_lines"] = log.count("\n")
            if SECRET in log:
                tally.problem("a prompt is in the log")
        finally:
            s.end()

    try:
        if cap:
            with memory_group(report["cap_bytes"]) as (before, group):
                inside(before, group)
        else:
            inside([], None)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if tally.total() < requests:
        tally.problem(f"{tally.total()} requests only")
    report.update(requests=tally.total(), kinds=tally.kinds, problems=tally.problems)
    return report


def show(report):
    mib = lambda x: f"{x / MIB:.1f} MiB"
    for kind, outcomes in sorted(report["kinds"].items()):
        print(f"{kind:20} {sum(outcomes.values()):6}   " + ", ".join(f"{n} {k}" for k, n in sorted(outcomes.items(), key=lambda x: -x[1])))
    print(f"{report['requests']} requests in {report['seconds']} s, {report['streams']} sequences of {report['context']} tokens, --ram {report['ram']}")
    print(f"anonymous memory: at most {mib(report['anonymous_peak'])}, from the second quarter to the last {report['anonymous_growth'] / MIB:+.2f} MiB")
    if report.get("group_peak"):
        print(f"memory group of {mib(report['cap_bytes'])}: at most {mib(report['group_peak'])}, page cache and kernel included")
    print(f"descriptors at most {report['descriptors_peak']}, threads at most {report['threads_peak']}; memory, descriptors, threads at the start {report.get('start')}, at the end {report.get('last')}")
    print(f"SIGTERM to the end: {report.get('stop_seconds')} s; {report.get('log_lines')} lines of log")
    for p in report["problems"]:
        print("PROBLEM: " + p)
    print("held" if not report["problems"] else f"{len(report['problems'])} problems")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seconds", type=float, default=60)
    p.add_argument("--requests", type=int, default=0, help="go on until there were so many; fewer are a failure")
    p.add_argument("--ram", default="64MiB")
    p.add_argument("--context", type=int, default=1024)
    p.add_argument("--streams", type=int, default=8)
    p.add_argument("--pause", type=float, default=0.2, help="seconds between the requests of a client, on average")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--no-cap", action="store_true")
    p.add_argument("--json", help="the report, and all problems, as JSON")
    a = p.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C does: the server, its group and its folder go
    report = run(a.seconds, a.ram, a.context, a.streams, a.pause, a.seed, not a.no_cap and not SANITIZER and can_cap(), a.requests, lambda text: print(text, file=sys.stderr, flush=True))
    if a.json:
        with open(a.json, "w") as f:
            json.dump(report, f, indent=1)
    show(report)
    return 1 if report["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
