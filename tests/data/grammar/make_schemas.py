#!/usr/bin/env python3
"""Write schemas.json: 50 JSON Schemas, each with texts that a grammar made of it must accept and must reject.

Instances are drawn at random from each schema and then changed at random; which of them are valid is jsonschema's word
(pip install jsonschema). Valid ones have their members in the order of the schema, as the grammar wants them.
usage: make_schemas.py > schemas.json"""
import json
import pathlib
import random
import sys

import jsonschema

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "cli"))
from json_schema import valid


def S(required=None, extra=False, **properties):
    return {"type": "object", "properties": properties, "required": list(properties) if required is None else required,
            "additionalProperties": extra}


NODE = {"$defs": {"node": S(["v"], v={"enum": [1, 2]}, next={"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]})},
        "$ref": "#/$defs/node"}
TREE = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 6},
        "children": {"type": "array", "items": {"$ref": "#"}, "maxItems": 2}}, "required": ["name"], "additionalProperties": False}
EXPRESSION = {"$defs": {"e": {"oneOf": [{"type": "integer", "minimum": 0, "maximum": 99},
                                        S(op={"const": "add"}, of={"type": "array", "items": {"$ref": "#/$defs/e"}, "minItems": 1, "maxItems": 2}),
                                        S(op={"const": "neg"}, of={"$ref": "#/$defs/e"})]}}, "$ref": "#/$defs/e"}

SCHEMAS = [
    {"type": "null"}, {"type": "boolean"}, {"type": "string", "minLength": 2, "maxLength": 5},
    {"type": "integer", "minimum": -5, "maximum": 120}, {"type": "integer", "exclusiveMinimum": 9, "exclusiveMaximum": 1001},
    {"type": "integer", "maximum": -10}, {"type": "integer", "minimum": 98765432109},
    {"type": "number", "minimum": 0.5, "maximum": 2}, {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    {"type": "number", "minimum": -1.25, "maximum": 1.25}, {"type": "number", "minimum": 99.5}, {"type": "number", "maximum": -0.001},
    {"type": "number"}, {"type": ["boolean", "null"]}, {"type": ["string", "integer"], "minimum": 3, "maximum": 7, "maxLength": 3},
    {"enum": ["barque", "brig", 3, None, 2.5, {"a": [1, "x"]}, [], "naïve 漢字 😀 \"q\" \\ \n"]},
    {"const": {"version": 3, "tags": ["a", None]}}, {"type": "string", "enum": ["red", "green", "greener"]},
    {"enum": [1, 2, 30, 31], "maximum": 30},
    {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "minItems": 2, "maxItems": 4},
    {"type": "array", "items": {"enum": ["cook", "mate"]}}, {"type": "array", "prefixItems": [{"const": "x"}, {"enum": [1, 2]}], "minItems": 2, "maxItems": 2},
    {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": {"type": "boolean"}, "minItems": 1},
    {"type": "array", "prefixItems": [{"type": "null"}, {"type": "boolean"}, {"type": "integer"}], "items": False},
    {"type": "array", "items": {"type": "array", "items": {"type": "null"}, "maxItems": 1}, "maxItems": 3},
    S(name={"type": "string", "maxLength": 8}, port={"type": "integer", "minimum": 1, "maximum": 65535}),
    S(["b"], a={"const": 1}, b={"const": 2}, c={"const": 3}), S([], a={"type": "null"}, b={"type": "boolean"}, c={"type": "integer"}, d={"type": "string"}),
    S(["d"], a={"type": "null"}, b={"type": "boolean"}, c={"type": "integer"}, d={"type": "string"}),
    S(["a"], {"type": "integer"}, a={"type": "string"}, ab={"type": "boolean"}), S(["a"], True, a={"type": "integer"}, b={"type": "integer"}),
    {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}}, {"type": "object", "required": ["z", "a"], "properties": {"a": {"type": "integer"}}},
    {"type": "object"}, {"type": "array"}, {},
    S(hull=S(wood={"enum": ["oak", "teak"]}, parts={"type": "array", "items": S(n={"type": "integer", "minimum": 0, "maximum": 9}), "minItems": 1, "maxItems": 2})),
    S(value={"anyOf": [{"type": "boolean"}, {"enum": ["none", "all"]}, S(x={"const": 1})]}),
    {"anyOf": [S(a={"type": "integer"}), S(b={"type": "string"})]}, {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "additionalProperties": False, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
    {"oneOf": [{"type": "integer"}, {"type": "string", "maxLength": 2}, {"type": "null"}]},
    {"oneOf": [S(kind={"const": "circle"}, r={"type": "number"}), S(kind={"const": "square"}, side={"type": "integer"})]},
    {"allOf": [{"type": "object", "properties": {"a": {"type": "integer", "minimum": 3}}, "required": ["a"]},
               {"type": "object", "properties": {"a": {"maximum": 5}, "b": {"type": "string"}}, "required": ["b"]}]},
    NODE, TREE, EXPRESSION,
    {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"}, {"type": "string", "pattern": "^(ab|cd)x?$|z\\d+"},
    {"type": "string", "pattern": "^[^a-z\\s]{1,3}(é|\\u00fc|\\\")\\.$"}, {"type": "string", "pattern": "^\\w+( \\w+){0,2}!?$", "minLength": 1},
]

WORDS = ["", "a", "ab", "b", "x", "zz", "oak", "red", "cook", "none", "AB-123", "abx", "cdx", "q z42 \"", "ÄÖ", "naïve", "😀", "tab\t", "\\", "A é.", "ÄBü.", "A\".", "one two", "one two!", "a b c d"]


def resolve(schema, root):
    while "$ref" in schema:
        at = root
        for step in schema["$ref"].lstrip("#").split("/")[1:]:
            at = at[step]
        schema = at
    return schema


def scalar(rng):
    return rng.choice([None, True, False, 0, -1, 3, 7, 42, 1000, 0.5, 1.5, -0.25, 1e-7, 1e21, 12345678901, rng.choice(WORDS), rng.choice(WORDS), [], {}, [1], {"a": 1}, {"k": [None, {"x": ""}]}])


def draw(schema, root, rng, depth=0):
    """An instance that is mostly valid."""
    if schema is True or not isinstance(schema, dict):
        return scalar(rng)
    schema = resolve(schema, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return rng.choice(schema["enum"])
    if "allOf" in schema:
        out = {}
        for s in schema["allOf"]:
            out.update(draw(s, root, rng, depth))
        return out
    for word in ("anyOf", "oneOf"):
        if word in schema and "properties" not in schema:
            return draw(rng.choice(schema[word][: 1 if depth > 4 else None]), root, rng, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else None)
    kind = rng.choice(kind) if isinstance(kind, list) else kind
    if kind == "null":
        return None
    if kind == "boolean":
        return rng.random() < 0.5
    if kind in ("integer", "number"):
        lo = schema.get("minimum", schema.get("exclusiveMinimum", schema.get("maximum", 50) - 100))
        hi = schema.get("maximum", schema.get("exclusiveMaximum", lo + 100))
        if kind == "integer":
            return rng.choice([lo, hi, rng.randint(int(lo), int(hi)), rng.randint(int(lo), int(hi))])
        x = lo + (hi - lo) * rng.random()
        return rng.choice([lo, hi, round(x, rng.randint(0, 8)), int(x), round(x, 3)])
    if kind == "string":
        if "pattern" in schema:
            return rng.choice(WORDS)
        n = rng.randint(schema.get("minLength", 0), min(schema.get("maxLength", 9), 9))
        return "".join(rng.choice("ab Z9\"\\/\n\té漢😀\x7f{}") for _ in range(n))
    if kind == "array":
        prefix = schema.get("prefixItems", [])
        most = schema.get("maxItems", len(prefix) + 3 if schema.get("items") is not False else len(prefix))
        n = rng.randint(schema.get("minItems", 0), most if depth < 4 else schema.get("minItems", 0))
        return [draw(prefix[i] if i < len(prefix) else schema.get("items", True), root, rng, depth + 1) for i in range(n)]
    if kind == "object":
        out = {}
        for name, s in schema.get("properties", {}).items():
            if name in schema.get("required", []) or (rng.random() < 0.6 and depth < 6):
                out[name] = draw(s, root, rng, depth + 1)
        for name in schema.get("required", []):
            out.setdefault(name, scalar(rng))
        extra = schema.get("additionalProperties", True)
        if extra is not False and rng.random() < 0.5:
            out.setdefault(rng.choice(["abc", "aa", "", "A", "b\"", "é", "aé", "😀", "z1"]), draw(extra, root, rng, depth + 1))
        return out
    return scalar(rng)


def change(v, rng):
    """The instance with something else in one place."""
    if isinstance(v, dict) and v and rng.random() < 0.8:
        k = rng.choice(list(v))
        what = rng.random()
        if what < 0.2:
            return {a: b for a, b in v.items() if a != k}
        if what < 0.35:
            return {**v, rng.choice(["extra", "a1", "zz"]): scalar(rng)}
        return {a: change(b, rng) if a == k else b for a, b in v.items()}
    if isinstance(v, list) and v and rng.random() < 0.8:
        i = rng.randrange(len(v))
        what = rng.random()
        return v[:i] + v[i + 1:] if what < 0.25 else v + [v[i]] if what < 0.4 else v[:i] + [change(v[i], rng)] + v[i + 1:]
    if isinstance(v, bool) or v is None:
        return scalar(rng)
    if isinstance(v, (int, float)) and rng.random() < 0.8:
        return rng.choice([v + 1, v - 1, -v, v * 10, v + 0.5, v / 8])
    if isinstance(v, str) and rng.random() < 0.8:
        return rng.choice([v + rng.choice("a\"é1"), v[:-1], v * 2, rng.choice(WORDS)])
    return scalar(rng)


def ordered(v, schema, root):
    """Are the members in the order of the schema? Only those of the parts that instances are drawn from."""
    schema = resolve(schema, root) if isinstance(schema, dict) else {}
    if isinstance(v, dict):
        parts = [schema, *schema.get("allOf", [])]
        names = []
        for s in parts:
            names += [n for n in s.get("properties", {}) if n not in names]
        for s in parts:
            names += [n for n in s.get("required", []) if n not in names]
        place = [names.index(k) if k in names else len(names) for k in v]
        return place == sorted(place)
    return True


def written(v, schema):
    """Are numbers written as the grammar takes them (an integer without a point), and do all readers of the pattern agree
    (\\w is ASCII in ECMA-262, Unicode in Python)?"""
    if isinstance(v, float):
        return v != int(v)
    if isinstance(v, str):
        return v.isascii() or "\\w" not in schema.get("pattern", "")
    if isinstance(v, (list, dict)):
        return all(written(x, schema) for x in (v.values() if isinstance(v, dict) else v))
    return True


def cases(schema, rng):
    validator = jsonschema.Draft202012Validator(schema)
    good, bad = {}, {}
    for i in range(600):
        v = draw(schema, schema, rng)
        for _ in range(i % 3):
            v = change(v, rng)
        text = json.dumps(v, ensure_ascii=rng.random() < 0.3, separators=rng.choice([(",", ":"), (", ", ": ")]))
        assert valid(v, schema) == validator.is_valid(v), (schema, v)
        if not validator.is_valid(v):
            bad[text] = 1
        elif ordered(v, schema, schema) and written(v, schema):
            good[text] = 1
    pick = lambda d, n: sorted(rng.sample(sorted(d), min(n, len(d))))
    extra = [t[:-1] for t in pick(good, 3) if len(t) > 1 and not t[-1].isdigit()] + [t + "x" for t in pick(good, 1)] + ["", "nul", "{", "{\"a\"", "\"\\ud800\"", "01", "[1,]", "  1"]
    return {"schema": schema, "accept": pick(good, 16), "reject": pick(bad, 16) + sorted(set(extra))}


def main():
    rng = random.Random(16)
    assert len(SCHEMAS) == 50
    print("[")
    print(",\n".join(json.dumps(cases(s, rng), ensure_ascii=False) for s in SCHEMAS))
    print("]")


main()
