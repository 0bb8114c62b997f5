/* Chat templates as published with their models, and what Jinja2 makes of them with the settings of
 * the transformers package (trim_blocks, lstrip_blocks) for the two conversations of chat_test.c
 * and an answer wanted. An empty rendering: the template refuses the conversation or drops part of
 * it. */
#ifndef PHID_TEST_CHAT_VECTORS_H
#define PHID_TEST_CHAT_VECTORS_H

/* clang-format off */
static const struct {
    const char *name;
    const char *source;
    const char *renderings[2];
} chat_vectors[] = {
    {"phi-3",
     "{% for message in messages %}{% if message['role'] == 'system' and message['conte"
     "nt'] %}{{'<|system|>\n' + message['content'] + '<|end|>\n"
     "'}}{% elif message['role'] == 'user' %}{{'<|user|>\n"
     "' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'assistant' %}{{"
     "'<|assistant|>\n' + message['content'] + '<|end|>\n"
     "'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n"
     "' }}{% else %}{{ eos_token }}{% endif %}",
     {"<|user|>\nHello<|end|>\n<|assistant|>\n",
      "<|system|>\nBe brief.<|end|>\n<|user|>\n Who are you\?\n"
      "<|end|>\n<|assistant|>\n I am. <|end|>\n<|user|>\n"
      "Fine\xe3\x80\x80"
      "<|end|>\n<|assistant|>\n"}},
    {"phi-3",
     "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') %}{"
     "{'<|user|>' + '\n' + message['content'] + '<|end|>' + '\n"
     "' + '<|assistant|>' + '\n'}}{% elif (message['role'] == 'assistant') %}{{message["
     "'content'] + '<|end|>' + '\n'}}{% endif %}{% endfor %}",
     {"<|user|>\nHello<|end|>\n<|assistant|>\n",
      ""}},
    {"phi-4",
     "{% for message in messages %}{% if (message['role'] == 'system') %}{{'<|im_start|"
     ">system<|im_sep|>' + message['content'] + '<|im_end|>'}}{% elif (message['role'] "
     "== 'user') %}{{'<|im_start|>user<|im_sep|>' + message['content'] + '<|im_end|>'}}"
     "{% elif (message['role'] == 'assistant') %}{{'<|im_start|>assistant<|im_sep|>' + "
     "message['content'] + '<|im_end|>'}}{% endif %}{% endfor %}{% if add_generation_pr"
     "ompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}",
     {"<|im_start|>user<|im_sep|>Hello<|im_end|><|im_start|>assistant<|im_sep|>",
      "<|im_start|>system<|im_sep|>Be brief.<|im_end|><|im_start|>user<|im_sep|> Who ar"
      "e you\?\n<|im_end|><|im_start|>assistant<|im_sep|> I am. <|im_end|><|im_start|>u"
      "ser<|im_sep|>Fine\xe3\x80\x80"
      "<|im_end|><|im_start|>assistant<|im_sep|>"}},
    {"phi-4",
     "{% for message in messages %}{% if (message['role'] == 'system') %}{{'<|im_start|"
     ">system<|im_sep|>' + message['content'] + '<|im_end|>'}}{% elif (message['role'] "
     "== 'user') %}{{'<|im_start|>user<|im_sep|>' + message['content'] + '<|im_end|><|i"
     "m_start|>assistant<|im_sep|>'}}{% elif (message['role'] == 'assistant') %}{{messa"
     "ge['content'] + '<|im_end|>'}}{% endif %}{% endfor %}",
     {"<|im_start|>user<|im_sep|>Hello<|im_end|><|im_start|>assistant<|im_sep|>",
      "<|im_start|>system<|im_sep|>Be brief.<|im_end|><|im_start|>user<|im_sep|> Who ar"
      "e you\?\n<|im_end|><|im_start|>assistant<|im_sep|> I am. <|im_end|><|im_start|>u"
      "ser<|im_sep|>Fine\xe3\x80\x80"
      "<|im_end|><|im_start|>assistant<|im_sep|>"}},
    {"phi-4-mini",
     "{% for message in messages %}{% if message['role'] == 'system' and 'tools' in mes"
     "sage and message['tools'] is not none %}{{ '<|' + message['role'] + '|>' + messag"
     "e['content'] + '<|tool|>' + message['tools'] + '<|/tool|>' + '<|end|>' }}{% else "
     "%}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endif %}"
     "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_t"
     "oken }}{% endif %}",
     {"<|user|>Hello<|end|><|assistant|>",
      "<|system|>Be brief.<|end|><|user|> Who are you\?\n"
      "<|end|><|assistant|> I am. <|end|><|user|>Fine\xe3\x80\x80"
      "<|end|><|assistant|>"}},
    {"chatml",
     "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message"
     "['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ "
     "'<|im_start|>assistant\\n' }}{% endif %}",
     {"<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n",
      "<|im_start|>system\nBe brief.<|im_end|>\n"
      "<|im_start|>user\n Who are you\?\n<|im_end|>\n"
      "<|im_start|>assistant\n I am. <|im_end|>\n"
      "<|im_start|>user\nFine\xe3\x80\x80"
      "<|im_end|>\n<|im_start|>assistant\n"}},
    {"smollm2",
     "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system'"
     " %}{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained b"
     "y Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n"
     "' + message['content'] + '<|im_end|>' + '\n"
     "'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n"
     "' }}{% endif %}",
     {"<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugg"
      "ing Face<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
      "<|im_start|>assistant\n",
      "<|im_start|>system\nBe brief.<|im_end|>\n"
      "<|im_start|>user\n Who are you\?\n<|im_end|>\n"
      "<|im_start|>assistant\n I am. <|im_end|>\n"
      "<|im_start|>user\nFine\xe3\x80\x80"
      "<|im_end|>\n<|im_start|>assistant\n"}},
    {"qwen2",
     "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system'"
     " %}{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
     "' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n"
     "' + message['content'] + '<|im_end|>' + '\n"
     "'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n"
     "' }}{% endif %}",
     {"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
      "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n",
      "<|im_start|>system\nBe brief.<|im_end|>\n"
      "<|im_start|>user\n Who are you\?\n<|im_end|>\n"
      "<|im_start|>assistant\n I am. <|im_end|>\n"
      "<|im_start|>user\nFine\xe3\x80\x80"
      "<|im_end|>\n<|im_start|>assistant\n"}},
    {"llama-2",
     "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% "
     "set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = me"
     "ssages %}{% set system_message = false %}{% endif %}{% for message in loop_messag"
     "es %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_excep"
     "tion('Conversation roles must alternate user/assistant/user/assistant/...') }}{% "
     "endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<"
     "SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %"
     "}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user'"
     " %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['rol"
     "e'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% "
     "endfor %}",
     {"<s>[INST] Hello [/INST]",
      "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n"
      " Who are you\? [/INST] I am. </s><s>[INST] Fine [/INST]"}},
    {"llama-3",
     "{% set loop_messages = messages %}{% for message in loop_messages %}{% set conten"
     "t = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n"
     "\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set c"
     "ontent = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_gene"
     "ration_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n"
     "\n' }}{% endif %}",
     {"<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n"
      "\nHello<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n"
      "\n",
      "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n"
      "\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n"
      "\nWho are you\?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n"
      "\nI am.<|eot_id|><|start_header_id|>user<|end_header_id|>\n"
      "\nFine<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n"
      "\n"}},
    {"llama-3.1",
     "{{- bos_token }}\n{%- if not date_string is defined %}\n"
     "    {%- if strftime_now is defined %}\n        {%- set date_string = strftime_now"
     "(\"%d %b %Y\") %}\n    {%- else %}\n        {%- set date_string = \"26 Jul 2024\""
     " %}\n    {%- endif %}\n{%- endif %}\n{%- if messages[0]['role'] == 'system' %}\n"
     "    {%- set system_message = messages[0]['content']|trim %}\n"
     "    {%- set messages = messages[1:] %}\n{%- else %}\n"
     "    {%- set system_message = \"\" %}\n{%- endif %}\n"
     "{{- \"<|start_header_id|>system<|end_header_id|>\\n\\n\" }}\n"
     "{{- \"Cutting Knowledge Date: December 2023\\n\" }}\n"
     "{{- \"Today Date: \" + date_string + \"\\n\\n\" }}\n"
     "{{- system_message }}\n{{- \"<|eot_id|>\" }}\n"
     "{%- for message in messages %}\n    {%- if not (message.role == 'ipython' or mess"
     "age.role == 'tool' or 'tool_calls' in message) %}\n"
     "        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ "
     "message['content'] | trim + '<|eot_id|>' }}\n"
     "    {%- endif %}\n{%- endfor %}\n{%- if add_generation_prompt %}\n"
     "    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n"
     "{%- endif %}\n",
     {"<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n"
      "\nCutting Knowledge Date: December 2023\n"
      "Today Date: 26 Jul 2024\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n"
      "\nHello<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n"
      "\n",
      "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n"
      "\nCutting Knowledge Date: December 2023\n"
      "Today Date: 26 Jul 2024\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_heade"
      "r_id|>\n\nWho are you\?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n"
      "\nI am.<|eot_id|><|start_header_id|>user<|end_header_id|>\n"
      "\nFine<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n"
      "\n"}},
    {"mistral-v0.1",
     "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != "
     "(loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate us"
     "er/assistant/user/assistant/...') }}{% endif %}{% if message['role'] == 'user' %}"
     "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assi"
     "stant' %}{{ message['content'] + eos_token + ' ' }}{% else %}{{ raise_exception('"
     "Only user and assistant roles are supported!') }}{% endif %}{% endfor %}",
     {"<s>[INST] Hello [/INST]",
      ""}},
    {"mistral-v0.2",
     "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != "
     "(loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate us"
     "er/assistant/user/assistant/...') }}{% endif %}{% if message['role'] == 'user' %}"
     "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assi"
     "stant' %}{{ message['content'] + eos_token}}{% else %}{{ raise_exception('Only us"
     "er and assistant roles are supported!') }}{% endif %}{% endfor %}",
     {"<s>[INST] Hello [/INST]",
      ""}},
    {"mistral-v1",
     "{%- if messages[0]['role'] == 'system' %}\n"
     "    {%- set system_message = messages[0]['content'] %}\n"
     "    {%- set loop_messages = messages[1:] %}\n"
     "{%- else %}\n    {%- set loop_messages = messages %}\n"
     "{%- endif %}\n\n{{- bos_token }}\n{%- for message in loop_messages %}\n"
     "    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\n"
     "        {{- raise_exception('After the optional system message, conversation role"
     "s must alternate user/assistant/user/assistant/...') }}\n"
     "    {%- endif %}\n    {%- if message['role'] == 'user' %}\n"
     "        {%- if loop.first and system_message is defined %}\n"
     "            {{- ' [INST] ' + system_message + '\\n\\n' + message['content'] + ' ["
     "/INST]' }}\n        {%- else %}\n            {{- ' [INST] ' + message['content'] "
     "+ ' [/INST]' }}\n        {%- endif %}\n    {%- elif message['role'] == 'assistant"
     "' %}\n        {{- ' ' + message['content'] + eos_token}}\n"
     "    {%- else %}\n        {{- raise_exception('Only user and assistant roles are s"
     "upported, with the exception of an initial optional system message!') }}\n"
     "    {%- endif %}\n{%- endfor %}\n",
     {"<s> [INST] Hello [/INST]",
      "<s> [INST] Be brief.\n\n Who are you\?\n [/INST]  I am. </s> [INST] Fine"
      "\xe3\x80\x80"
      " [/INST]"}},
    {"mistral-v3",
     "{%- if messages[0][\"role\"] == \"system\" %}\n"
     "    {%- set system_message = messages[0][\"content\"] %}\n"
     "    {%- set loop_messages = messages[1:] %}\n"
     "{%- else %}\n    {%- set loop_messages = messages %}\n"
     "{%- endif %}\n{%- if not tools is defined %}\n"
     "    {%- set tools = none %}\n{%- endif %}\n"
     "{%- set user_messages = loop_messages | selectattr(\"role\", \"equalto\", \"user"
     "\") | list %}\n{{- bos_token }}\n{%- for message in loop_messages %}\n"
     "    {%- if message[\"role\"] == \"user\" %}\n"
     "        {%- if tools is not none and (message == user_messages[-1]) %}\n"
     "            {{- \"[AVAILABLE_TOOLS] [\" }}\n"
     "            {{- \"[/AVAILABLE_TOOLS]\" }}\n"
     "        {%- endif %}\n        {%- if loop.last and system_message is defined %}\n"
     "            {{- \"[INST] \" + system_message + \"\\n\\n\" + message[\"content\"] "
     "+ \"[/INST]\" }}\n        {%- else %}\n            {{- \"[INST] \" + message[\"co"
     "ntent\"] + \"[/INST]\" }}\n        {%- endif %}\n"
     "    {%- elif message[\"role\"] == \"assistant\" %}\n"
     "        {{- \" \" + message[\"content\"]|trim + eos_token}}\n"
     "    {%- endif %}\n{%- endfor %}\n",
     {"<s>[INST] Hello[/INST]",
      "<s>[INST]  Who are you\?\n[/INST] I am.</s>[INST] Be brief.\n"
      "\nFine\xe3\x80\x80"
      "[/INST]"}},
    {"mistral-v3-tekken",
     "{%- if messages[0][\"role\"] == \"system\" %}\n"
     "    {%- set system_message = messages[0][\"content\"] %}\n"
     "    {%- set loop_messages = messages[1:] %}\n"
     "{%- else %}\n    {%- set loop_messages = messages %}\n"
     "{%- endif %}\n{%- if not tools is defined %}\n"
     "    {%- set tools = none %}\n{%- endif %}\n"
     "{%- set user_messages = loop_messages | selectattr(\"role\", \"equalto\", \"user"
     "\") | list %}\n{{- bos_token }}\n{%- for message in loop_messages %}\n"
     "    {%- if message[\"role\"] == \"user\" %}\n"
     "        {%- if tools is not none and (message == user_messages[-1]) %}\n"
     "            {{- \"[AVAILABLE_TOOLS] [\" }}\n"
     "            {{- \"[/AVAILABLE_TOOLS]\" }}\n"
     "        {%- endif %}\n        {%- if loop.last and system_message is defined %}\n"
     "            {{- \"[INST]\" + system_message + \"\\n\\n\" + message[\"content\"] +"
     " \"[/INST]\" }}\n        {%- else %}\n            {{- \"[INST]\" + message[\"cont"
     "ent\"] + \"[/INST]\" }}\n        {%- endif %}\n"
     "    {%- elif message[\"role\"] == \"assistant\" %}\n"
     "        {{- message[\"content\"] + eos_token}}\n"
     "    {%- endif %}\n{%- endfor %}\n",
     {"<s>[INST]Hello[/INST]",
      "<s>[INST] Who are you\?\n[/INST] I am. </s>[INST]Be brief.\n"
      "\nFine\xe3\x80\x80"
      "[/INST]"}},
    {"zephyr",
     "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
     "{{ '<|user|>\n' + message['content'] + eos_token }}\n"
     "{% elif message['role'] == 'system' %}\n{{ '<|system|>\n"
     "' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}"
     "\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n"
     "{% endif %}\n{% if loop.last and add_generation_prompt %}\n"
     "{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
     {"<|user|>\nHello</s>\n<|assistant|>\n",
      "<|system|>\nBe brief.</s>\n<|user|>\n Who are you\?\n"
      "</s>\n<|assistant|>\n I am. </s>\n<|user|>\n"
      "Fine\xe3\x80\x80"
      "</s>\n<|assistant|>\n"}},
};
/* clang-format on */

#endif
