"""docs/server.md and the systemd unit say what the program does."""
import json, os, re, shutil, subprocess, tomllib

import pytest
import yaml
from serverlib import KIND, ODMOE, get, odmoe, post

if KIND == "url":
    pytest.skip("needs odmoe", allow_module_level=True)

DOCS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs")
TEXT = open(os.path.join(DOCS, "server.md")).read()
UNIT = open(os.path.join(DOCS, "odmoe.service")).read()


def fences(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.S)


def test_every_option_of_the_server_is_in_its_docs():
    own = odmoe("serve", "--help").stdout.split(" Sampling, where")[0]
    options = re.findall(r"^ +(--[a-z-]+)", own, re.M)
    assert len(options) > 18 and [o for o in options if f"`{o}" not in TEXT and f", `{o}" not in TEXT] == []


def test_the_help_has_an_example():
    help = odmoe("serve", "--help")
    assert help.returncode == 0 and "Example:\n  odmoe serve -m models/demo.gguf" in help.stdout and help.stderr == ""


def test_every_endpoint_of_the_docs_is_there(srv):
    table = TEXT.split("| endpoint | what it is |")[1].split("\n\n")[0]
    for method, rest in re.findall(r"^\| `(GET|POST) ([^|]*)\|", table, re.M):
        for path in re.findall(r"/[a-z0-9_./{}-]*", rest):
            r = get(srv, path) if method == "GET" else post(srv, path, {})
            assert r.status in (200, 400) or "{id}" in path, (path, r)


def test_configurations_of_clients_are_well_formed():
    (opencode,), (codex,), (carry_on,) = map(fences, ("json", "toml", "yaml"))
    provider, model = json.loads(opencode)["model"].split("/")
    assert model in json.loads(opencode)["provider"][provider]["models"]
    codex = tomllib.loads(codex)
    assert codex["model_providers"][codex["model_provider"]]["wire_api"] == "responses"
    carry_on = yaml.safe_load(carry_on)
    assert {"name", "version", "schema"} <= set(carry_on) and [m["roles"] for m in carry_on["models"]] == [["chat", "edit", "apply"], ["autocomplete"]]


def test_the_unit_starts_what_the_program_takes():
    command = re.search(r"^ExecStart=(.*)$", UNIT, re.M)[1].split()
    shown = odmoe("serve", "--help").stdout
    assert command[:2] == ["/usr/local/bin/odmoe", "serve"] and all(o in shown for o in command if o.startswith("--"))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is missing")
def test_systemd_takes_the_unit_as_it_is(tmp_path):
    unit = tmp_path / "odmoe.service"
    unit.write_text(UNIT.replace("/usr/local/bin/odmoe", os.path.abspath(ODMOE)))
    r = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60)
    assert "odmoe" not in r.stderr + r.stdout, r.stderr
