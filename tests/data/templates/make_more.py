#!/usr/bin/env python3
"""Write more.json: older chat templates, as published with models or cut down to what a plain conversation runs through,
and the texts that they render. usage: make_more.py  (needs jinja2; writes beside itself)

more.json: {name: {"template": text, "rows": [{"messages", "add_generation_prompt", "text"}]}};
text is null where the template refuses the conversation. bos and eos are the literal texts <BOS> and <EOS>.
"""
import json
import os

from jinja2.sandbox import ImmutableSandboxedEnvironment

TALKS = [
    [("user", "Hello")],
    [("system", "You are brief."), ("user", "What is a river?")],
    [("user", "One"), ("assistant", "1"), ("user", "Two?\nIn words & <signs>.")],
    [("system", " Sys "), ("user", "  leading blanks"), ("assistant", " Line 1\n\nLine 2 "), ("user", "end ")],
    [("user", "Q"), ("assistant", "<think>\na\n</think>\n\nb"), ("user", "R")],
    [("user", "Q"), ("assistant", "b")],
    [("user", "Q"), ("assistant", "<think>\na\n</think>\n\nb")],
    [("user", "One"), ("user", "Two")],
    [("assistant", "I begin"), ("user", "and I")],
    [("user", "\x1c\x85x\u3000\x1f"), ("assistant", "\u200by\x1d"), ("user", "\x1e")],
]
LATER_SYSTEM = [[("user", "One"), ("assistant", "1"), ("system", "S"), ("user", "Two")], [("system", "A"), ("system", "B"), ("user", "Two")]]

ALTERNATE = "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
SYSTEM_APART = "{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content'] %}{%- set loop_messages = messages[1:] %}{%- else %}{%- set loop_messages = messages %}{%- endif %}"
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
    "{% for message in loop_messages %}" + ALTERNATE + "{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL_OLD = "{{ bos_token }}{% for message in messages %}" + ALTERNATE + "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
MISTRAL_V3 = (
    SYSTEM_APART + "{{- bos_token }}{%- for message in loop_messages %}" + ALTERNATE.replace("{% ", "{%- ") + "{%- if message[\"role\"] == \"user\" %}"
    "{%- if loop.last and system_message is defined %}{{- \"[INST] \" + system_message + \"\\n\\n\" + message[\"content\"] + \"[/INST]\" }}{%- else %}{{- \"[INST] \" + message[\"content\"] + \"[/INST]\" }}{%- endif %}"
    "{%- elif message[\"role\"] == \"assistant\" %}{{- \" \" + message[\"content\"]|trim + eos_token}}{%- else %}{{- raise_exception(\"Only user and assistant roles are supported, with the exception of an initial optional system message!\") }}{%- endif %}{%- endfor %}"
)
DEEPSEEK = (
    "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set ns = namespace(system_prompt='', is_first_sp=true) %}"
    "{%- for message in messages %}{%- if message['role'] == 'system' %}{%- if ns.is_first_sp %}{% set ns.system_prompt = ns.system_prompt + message['content'] %}{% set ns.is_first_sp = false %}{%- else %}{% set ns.system_prompt = ns.system_prompt + '\\n\\n' + message['content'] %}{%- endif %}{%- endif %}{%- endfor %}"
    "{{ bos_token }}{{ ns.system_prompt }}{%- for message in messages %}{%- if message['role'] == 'user' %}{{'<｜User｜>' + message['content']}}{%- endif %}"
    "{%- if message['role'] == 'assistant' %}{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- endfor -%}"
)
LLAMA3 = "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
LLAMA31 = (
    "{{- bos_token }}\n{%- if not date_string is defined %}\n    {%- set date_string = \"26 Jul 2024\" %}\n{%- endif %}\n{%- if messages[0]['role'] == 'system' %}\n    {%- set system_message = messages[0]['content']|trim %}\n    {%- set messages = messages[1:] %}\n{%- else %}\n    {%- set system_message = \"\" %}\n{%- endif %}\n"
    "{{- \"<|start_header_id|>system<|end_header_id|>\\n\\n\" }}\n{{- \"Cutting Knowledge Date: December 2023\\n\" }}\n{{- \"Today Date: \" + date_string + \"\\n\\n\" }}\n{{- system_message }}\n{{- \"<|eot_id|>\" }}\n"
    "{%- for message in messages %}\n    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n{%- endif %}\n"
)
GEMMA = "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}" + ALTERNATE + "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
GEMMA3 = (
    "{{ bos_token }}\n{%- if messages[0]['role'] == 'system' -%}\n    {%- set first_user_prefix = messages[0]['content'] + '\\n\\n' -%}\n    {%- set loop_messages = messages[1:] -%}\n{%- else -%}\n    {%- set first_user_prefix = \"\" -%}\n    {%- set loop_messages = messages -%}\n{%- endif -%}\n{%- for message in loop_messages -%}\n    " + ALTERNATE.replace("{% ", "{%- ") + "\n"
    "    {%- if (message['role'] == 'assistant') -%}\n        {%- set role = \"model\" -%}\n    {%- else -%}\n        {%- set role = message['role'] -%}\n    {%- endif -%}\n    {{ '<start_of_turn>' + role + '\\n' + (first_user_prefix if loop.first else \"\") }}\n    {{- message['content'] | trim }}\n    {{- '<end_of_turn>\\n' }}\n{%- endfor -%}\n{%- if add_generation_prompt -%}\n    {{'<start_of_turn>model\\n'}}\n{%- endif -%}\n"
)
QWEN3 = open(os.path.dirname(os.path.abspath(__file__)) + "/Qwen-Qwen3-0.6B.jinja").read()
QWEN3_THINKING = QWEN3[: QWEN3.index("{%- if add_generation_prompt %}")] + "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n<think>\\n' }}\n{%- endif %}"
QWQ = (
    "{%- if messages[0]['role'] == 'system' %}\n    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}\n{%- endif %}\n{%- for message in messages %}\n"
    "    {%- if (message.role == \"user\") or (message.role == \"system\" and not loop.first) %}\n        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n"
    "    {%- elif message.role == \"assistant\" and not message.tool_calls %}\n        {%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}\n        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}\n"
    "    {%- endif %}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n<think>\\n' }}\n{%- endif %}\n"
)
CHATML = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
# The shapes of Qwen3-2507's and Qwen3-Coder's templates, without what tools make of them.
PROMPT = "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n"
QWEN3_INSTRUCT = (
    "{%- if tools %}\n    {{- '<|im_start|>system\\n' }}\n    {%- if messages[0].role == 'system' %}\n        {{- messages[0].content + '\\n\\n' }}\n    {%- endif %}\n    {{- \"# Tools\" }}\n    {{- \"<|im_end|>\\n\" }}\n"
    "{%- else %}\n    {%- if messages[0].role == 'system' %}\n        {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}\n    {%- endif %}\n{%- endif %}\n"
    "{%- for message in messages %}\n    {%- if message.content is string %}\n        {%- set content = message.content %}\n    {%- else %}\n        {%- set content = '' %}\n    {%- endif %}\n"
    "    {%- if (message.role == \"user\") or (message.role == \"system\" and not loop.first) %}\n        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}\n"
    "    {%- elif message.role == \"assistant\" %}\n        {{- '<|im_start|>' + message.role + '\\n' + content }}\n        {{- '<|im_end|>\\n' }}\n    {%- endif %}\n{%- endfor %}\n" + PROMPT
)
QWEN3_CODER = (
    '{%- if messages[0]["role"] == "system" %}\n    {%- set system_message = messages[0]["content"] %}\n    {%- set loop_messages = messages[1:] %}\n{%- else %}\n    {%- set loop_messages = messages %}\n{%- endif %}\n\n'
    "{%- if not tools is defined %}\n    {%- set tools = [] %}\n{%- endif %}\n\n"
    '{%- if system_message is defined %}\n    {{- "<|im_start|>system\\n" + system_message }}\n{%- else %}\n    {%- if tools is iterable and tools | length > 0 %}\n'
    '        {{- "<|im_start|>system\\nYou are Qwen, a helpful AI assistant that can interact with a computer to solve tasks." }}\n    {%- endif %}\n{%- endif %}\n'
    "{%- if tools is iterable and tools | length > 0 %}\n    {{- \"\\n\\n# Tools\" }}\n{%- endif %}\n"
    "{%- if system_message is defined %}\n    {{- '<|im_end|>\\n' }}\n{%- else %}\n    {%- if tools is iterable and tools | length > 0 %}\n        {{- '<|im_end|>\\n' }}\n    {%- endif %}\n{%- endif %}\n"
    '{%- for message in loop_messages %}\n    {%- if message.role == "assistant" and message.tool_calls is defined and message.tool_calls is iterable and message.tool_calls | length > 0 %}\n        {{- \'<|im_start|>\' + message.role }}\n        {%- if message.content is defined and message.content is string and message.content | trim | length > 0 %}\n            {{- \'\\n\' + message.content | trim + \'\\n\' }}\n        {%- endif %}\n        {{- \'<|im_end|>\\n\' }}\n'
    '    {%- elif message.role == "user" or message.role == "system" or message.role == "assistant" %}\n        {{- \'<|im_start|>\' + message.role + \'\\n\' + message.content + \'<|im_end|>\' + \'\\n\' }}\n'
    '    {%- else %}\n        {{- \'<|im_start|>\' + message.role + \'\\n\' + message.content + \'<|im_end|>\\n\' }}\n    {%- endif %}\n{%- endfor %}\n' + PROMPT
)

# name: format, template, further conversations
TEMPLATES = {
    "chatml": ("chatml", CHATML, LATER_SYSTEM),
    "chatml-raises": ("chatml", CHATML.replace("{% for message in messages %}", "{% for message in messages %}{% if message['role'] not in ['system', 'user', 'assistant'] %}{{ raise_exception('Unknown role') }}{% endif %}"), LATER_SYSTEM),
    "chatml-bos": ("chatml", "{{ bos_token }}" + CHATML, LATER_SYSTEM),
    "qwen2": ("chatml", "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful assistant<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}", LATER_SYSTEM),
    "qwen1.5": ("chatml", "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful assistant<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content']}}{% if (loop.last and add_generation_prompt) or not loop.last %}{{ '<|im_end|>' + '\n'}}{% endif %}{% endfor %}{% if add_generation_prompt and messages[-1]['role'] != 'assistant' %}{{ '<|im_start|>assistant\n' }}{% endif %}", LATER_SYSTEM),
    "qwen3": ("chatml", QWEN3, LATER_SYSTEM),
    "qwen3-thinking": ("chatml", QWEN3_THINKING, LATER_SYSTEM),
    "qwen3-instruct": ("chatml", QWEN3_INSTRUCT, LATER_SYSTEM),
    "qwen3-coder": ("chatml", QWEN3_CODER, LATER_SYSTEM),
    "qwq": ("chatml", QWQ, LATER_SYSTEM),
    "phi-3-small": ("phi3", "{{ bos_token }}{% for message in messages %}{{'<|' + message['role'] + '|>' + '\n' + message['content'] + '<|end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}", LATER_SYSTEM),
    "tulu": ("tulu", "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{{ '<|system|>\n' + message['content'] + '\n' }}{% elif message['role'] == 'user' %}{{ '<|user|>\n' + message['content'] + '\n' }}{% elif message['role'] == 'assistant' %}{% if not loop.last %}{{ '<|assistant|>\n'  + message['content'] + eos_token + '\n' }}{% else %}{{ '<|assistant|>\n'  + message['content'] + eos_token }}{% endif %}{% endif %}{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}", LATER_SYSTEM),
    "deepseek-v2": ("deepseek-v2", "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\n\n' }}{% elif message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + eos_token }}{% elif message['role'] == 'system' %}{{ message['content'] + '\n\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}", LATER_SYSTEM),
    "deepseek-v3": ("deepseek-v3", DEEPSEEK.replace("{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}", "") + "{% if add_generation_prompt %}{{'<｜Assistant｜>'}}{% endif %}", LATER_SYSTEM),
    "deepseek-r1": ("deepseek-r1", DEEPSEEK + "{% if add_generation_prompt %}{{'<｜Assistant｜><think>\\n'}}{% endif %}", LATER_SYSTEM),
    "deepseek-v3.1": ("deepseek-v3.1", open(os.path.dirname(os.path.abspath(__file__)) + "/deepseek-ai-DeepSeek-V3.1.jinja").read(), LATER_SYSTEM),
    "deepseek-v3.1-half": ("deepseek-v3.1", open(os.path.dirname(os.path.abspath(__file__)) + "/deepseek-ai-DeepSeek-V3.1.jinja").read().replace("<think></think>", "</think>"), LATER_SYSTEM),
    "llama2": ("llama2", LLAMA2, []),
    "llama2-bos-once": ("llama2", "{{ bos_token }}" + LLAMA2.replace("bos_token + '[INST] '", "'[INST] '"), []),
    "mistral-v0.2": ("mistral-v1", MISTRAL_OLD, LATER_SYSTEM),
    "mistral-v0.1": ("mistral-v1", MISTRAL_OLD.replace("+ eos_token }}", "+ eos_token + ' ' }}"), LATER_SYSTEM),
    "mistral-v1": ("mistral-v1", SYSTEM_APART + "{{- bos_token }}\n{%- for message in loop_messages %}" + ALTERNATE.replace("{% ", "{%- ") + "\n    {%- if message['role'] == 'user' %}\n        {%- if loop.first and system_message is defined %}\n            {{- ' [INST] ' + system_message + '\\n\\n' + message['content'] + ' [/INST]' }}\n        {%- else %}\n            {{- ' [INST] ' + message['content'] + ' [/INST]' }}\n        {%- endif %}\n    {%- elif message['role'] == 'assistant' %}\n        {{- ' ' + message['content'] + eos_token}}\n    {%- else %}\n        {{- raise_exception('Only user and assistant roles are supported!') }}\n    {%- endif %}\n{%- endfor %}\n", LATER_SYSTEM),
    "mistral-v3": ("mistral-v3", MISTRAL_V3, LATER_SYSTEM),
    "mistral-v3-untrimmed": ("mistral-v3", MISTRAL_V3.replace("|trim", ""), LATER_SYSTEM),
    "ministral": ("mistral-v3-tekken", MISTRAL_V3.replace('"[INST] "', '"[INST]"'), LATER_SYSTEM),
    "nemo": ("mistral-v3-tekken", MISTRAL_V3.replace('"[INST] "', '"[INST]"').replace('" " + message["content"]|trim', 'message["content"]'), LATER_SYSTEM),
    "llama3": ("llama3", LLAMA3, LATER_SYSTEM),
    "llama3.1": ("llama3", LLAMA31, LATER_SYSTEM),
    "gemma": ("gemma", GEMMA, LATER_SYSTEM),
    "gemma3": ("gemma", GEMMA3, LATER_SYSTEM),
}


def refuse(message):
    raise ValueError(message)


out = {}
for name, (_, text, more) in TEMPLATES.items():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    env.globals.update(raise_exception=refuse)
    template, rows = env.from_string(text), []
    for talk in TALKS + more:
        for prompt in (True, False):
            messages = [dict(role=r, content=c) for r, c in talk]
            try:
                rendered = template.render(messages=messages, add_generation_prompt=prompt, bos_token="<BOS>", eos_token="<EOS>")
            except ValueError:
                rendered = None
            rows.append(dict(messages=messages, add_generation_prompt=prompt, text=rendered))
    out[name] = dict(template=text, rows=rows)
with open(os.path.dirname(os.path.abspath(__file__)) + "/more.json", "w", encoding="utf8") as f:
    json.dump(out, f, ensure_ascii=False, indent=0)
    f.write("\n")
