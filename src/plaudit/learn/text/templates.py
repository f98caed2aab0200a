"""Chat templates for tiny models (the shapes that matter of Llama's and Qwen's), and one for models that have none."""

from __future__ import annotations

LLAMA = (
    "{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + (message['content'] or '') | trim "
    "+ '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
"""Every turn as it is: what was written stays when more follows."""

QWEN = (
    "{% if tools %}{{ '<|im_start|>system\\n# Tools' }}"
    "{% for tool in tools %}{{ '\\n' + tool | tojson }}{% endfor %}{{ '<|im_end|>\\n' }}{% endif %}"
    "{% set ns = namespace(last=-1) %}"
    "{% for message in messages %}{% if message.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for message in messages %}"
    "{% set content = message.content if message.content is string else '' %}"
    "{{ '<|im_start|>' + message.role + '\\n' }}"
    "{% if message.role == 'assistant' %}"
    "{% set thinking = message.reasoning_content if message.reasoning_content is string else '' %}"
    "{% if not thinking and '</think>' in content %}"
    "{% set thinking = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}"
    "{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}"
    "{% if loop.index0 > ns.last and thinking %}{{ '<think>\\n' + thinking + '\\n</think>\\n\\n' }}{% endif %}"
    "{{ content }}"
    "{% for call in message.tool_calls or [] %}{% set f = call.function or call %}"
    "{{ '\\n<tool_call>\\n{\"name\": \"' + f.name + '\", \"arguments\": ' }}"
    "{{ f.arguments if f.arguments is string else f.arguments | tojson }}{{ '}\\n</tool_call>' }}{% endfor %}"
    "{% else %}{{ content }}{% endif %}"
    "{{ '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""As Qwen 3: tools in front, tool calls in tags, and of the thinking only what follows the last user's turn."""

DIALOGUE = (
    "{{ bos_token or '' }}"
    "{% for message in messages %}"
    "{{ {'user': 'User', 'assistant': 'Assistant'}.get(message['role'], message['role'] | title) + ': ' "
    "+ (message['content'] or '') | trim + '\\n\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
"""A dialogue in plain words, for base models, whose tokenizers have no template."""
