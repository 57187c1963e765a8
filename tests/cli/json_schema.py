"""Is a value valid by a JSON Schema? The words that tests/data/grammar uses; make_schemas.py there checks this against the
package jsonschema on every instance that it draws."""
import re

TYPES = {"null": lambda v: v is None, "boolean": lambda v: isinstance(v, bool), "string": lambda v: isinstance(v, str),
         "array": lambda v: isinstance(v, list), "object": lambda v: isinstance(v, dict),
         "number": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool),
         "integer": lambda v: not isinstance(v, bool) and (isinstance(v, int) or isinstance(v, float) and v.is_integer())}
KNOWN = {"type", "enum", "const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "pattern",
         "properties", "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems", "anyOf", "oneOf", "allOf",
         "$ref", "$defs"}


def same(a, b):
    """Equal as JSON: true is not 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return a == b


def find(root, ref):
    for step in ref.lstrip("#").split("/")[1:]:
        root = root[step]
    return root


def valid(v, schema, root=None):
    root = schema if root is None else root
    if isinstance(schema, bool):
        return schema
    assert schema.keys() <= KNOWN, schema
    kinds = schema.get("type", list(TYPES))
    s = schema.get
    good = any(TYPES[k](v) for k in ([kinds] if isinstance(kinds, str) else kinds))
    good &= "enum" not in schema or any(same(v, x) for x in schema["enum"])
    good &= "const" not in schema or same(v, schema["const"])
    good &= "$ref" not in schema or valid(v, find(root, schema["$ref"]), root)
    good &= all(valid(v, x, root) for x in s("allOf", []))
    good &= "anyOf" not in schema or any(valid(v, x, root) for x in schema["anyOf"])
    good &= "oneOf" not in schema or sum(valid(v, x, root) for x in schema["oneOf"]) == 1
    if TYPES["number"](v):
        good &= s("minimum", v) <= v <= s("maximum", v)
        good &= ("exclusiveMinimum" not in schema or v > schema["exclusiveMinimum"])
        good &= ("exclusiveMaximum" not in schema or v < schema["exclusiveMaximum"])
    if isinstance(v, str):
        good &= s("minLength", 0) <= len(v) <= s("maxLength", len(v))
        good &= "pattern" not in schema or bool(re.search(schema["pattern"], v))
    if isinstance(v, list):
        prefix = s("prefixItems", [])
        good &= s("minItems", 0) <= len(v) <= s("maxItems", len(v))
        good &= all(valid(x, y, root) for x, y in zip(v, prefix))
        good &= all(valid(x, s("items", True), root) for x in v[len(prefix):])
    if isinstance(v, dict):
        own = s("properties", {})
        good &= set(s("required", [])) <= v.keys()
        good &= all(valid(x, own.get(k, s("additionalProperties", True)), root) for k, x in v.items())
    return good
