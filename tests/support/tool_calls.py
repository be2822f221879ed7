"One tool call in the text of each form that SGLang's parsers read: get_weather(city='Paris')."

CALL = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
JSON = '{"city": "Paris"}'
ARGUMENT = "<arg_key>city</arg_key>{0}<arg_value>Paris</arg_value>"
INVOKE = (
    '<{0}invoke name="get_weather">\n<{0}parameter name="city" string="true">'
    "Paris</{0}parameter>\n</{0}invoke>"
)
FORMS = {  # by the row that names the parser, then by parser
    "reply-tool-call-qwen25": dict.fromkeys(
        ("qwen25", "qwen", "hermes"), f"<tool_call>\n{CALL}\n</tool_call>"
    ),
    "reply-tool-call-qwen3-coder": dict.fromkeys(
        ("qwen3_coder", "mimo", "step3p5"),
        "<tool_call>\n<function=get_weather>\n<parameter=city>Paris</parameter>\n"
        "</function>\n</tool_call>",
    ),
    "reply-tool-call-glm": {
        **dict.fromkeys(
            ("glm45", "ling3", "poolside_v1"),
            "<tool_call>get_weather\n" + ARGUMENT.format("\n") + "\n</tool_call>",
        ),
        "spark25": "<tool_call>get_weather\n" + ARGUMENT.format("") + "\n</tool_call>",
    },
    "reply-tool-call-glm47": {
        "glm47": "<tool_call>get_weather" + ARGUMENT.format("") + "</tool_call>"
    },
    "reply-tool-call-hunyuan": {
        "hunyuan": "<tool_calls>\n<tool_call>get_weather<tool_sep>\n"
        + ARGUMENT.format("\n")
        + "\n</tool_call>\n</tool_calls>"
    },
    "reply-tool-call-deepseek-v3": {
        "deepseekv3": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>"
        f"get_weather\n```json\n{JSON}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
    },
    "reply-tool-call-deepseek-v31": {
        "deepseekv31": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>"
        f"{JSON}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
    },
    "reply-tool-call-deepseek-dsml": {
        "deepseekv32": "<｜DSML｜function_calls>\n"
        + INVOKE.format("｜DSML｜")
        + "\n</｜DSML｜function_calls>"
    },
    "reply-tool-call-deepseek-v4": {
        "deepseekv4": "<｜DSML｜tool_calls>\n"
        + INVOKE.format("｜DSML｜")
        + "\n</｜DSML｜tool_calls>"
    },
    "reply-tool-call-deepseek-v41": {
        "deepseekv41": "<｜DSML｜ calls>\n" + INVOKE.format("｜DSML｜ ") + "\n</｜DSML｜ calls>"
    },
    "reply-tool-call-kimi": {
        "kimi_k2": "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
        f"<|tool_call_argument_begin|>{JSON}<|tool_call_end|><|tool_calls_section_end|>"
    },
    "reply-tool-call-minimax": {
        "minimax-m2": '<minimax:tool_call>\n<invoke name="get_weather">\n'
        '<parameter name="city">Paris</parameter>\n</invoke>\n</minimax:tool_call>'
    },
    "reply-tool-call-minimax-m3": {
        "minimax-m3": ']<]minimax[>[<tool_call>\n]<]minimax[>[<invoke name="get_weather">\n'
        "]<]minimax[>[<city>Paris]<]minimax[>[</city>\n]<]minimax[>[</invoke>\n"
        "]<]minimax[>[</tool_call>"
    },
    "reply-tool-call-llama": {
        "llama3": '<|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris"}}'
    },
    "reply-tool-call-pythonic": {"pythonic": '[get_weather(city="Paris")]'},
    "reply-tool-call-mistral": {"mistral": f"[TOOL_CALLS] [{CALL}]"},
    "reply-tool-call-gpt-oss": {
        "gpt-oss": "<|start|>assistant<|channel|>commentary to=functions.get_weather "
        f"<|constrain|>json<|message|>{JSON}<|call|>"
    },
    "reply-tool-call-other": {
        "interns1": f"<|action_start|> <|plugin|>\n{CALL}<|action_end|>",
        "step3": "<｜tool_calls_begin｜>\n<｜tool_call_begin｜>function<｜tool_sep｜>"
        '<steptml:invoke name="get_weather"><steptml:parameter name="city">Paris'
        "</steptml:parameter></steptml:invoke><｜tool_call_end｜>\n<｜tool_calls_end｜>",
        "lfm2": f"<|tool_call_start|>[{CALL}]<|tool_call_end|>",
        "dots": '<dots_function_call>\n<invoke name="get_weather">\n<parameter name="city">Paris'
        "</parameter>\n</invoke>\n</dots_function_call>",
        "cohere_command4": '<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "get_weather",'
        f' "parameters": {JSON}}}]<|END_ACTION|>',
        "gemma4": '<|tool_call>call:get_weather{city:<|"|>Paris<|"|>}<tool_call|>',
        "iquest_q1": "<iquest_tool_call>get_weather" + ARGUMENT.format("") + "</iquest_tool_call>",
        "kimi_k3": '<|open|>tools<|sep|><|open|>call tool="get_weather" index="1"<|sep|>'
        '<|open|>argument key="city" type="string"<|sep|>Paris<|close|>argument<|sep|>'
        "<|close|>call<|sep|><|close|>tools<|sep|>",
        "gigachat35": "<｜GCML｜tool_calls>\n"
        + INVOKE.format("｜GCML｜")
        + "\n</｜GCML｜tool_calls>",
        "gigachat3": f"<|function_call|>{CALL}",
        "apertus2509": f'<|tools_prefix|>[{{"get_weather": {JSON}}}]<|tools_suffix|>',
        "k2_horizon": f"<ifm|tool_call>{CALL}</ifm|tool_call>",
        "inkling": '<|message_model|>get_weather<|content_invoke_tool_json|>{"name":"get_weather",'
        f'"args":{JSON}}}<|end_message|>',
        "muse": 'to=get_weather<|message|><atem:function_calls>\n<atem:invoke name="get_weather">\n'
        '<atem:parameter name="city">Paris</atem:parameter>\n</atem:invoke>\n'
        "</atem:function_calls><|eom|>",
        "minicpm5": '<function name="get_weather"><param name="city">Paris</param></function>',
        "beam": " to=get_weather<|channel|>analysis <|constrain|>xml<|message|>"
        '<rfl:parameter name="city">\nParis\n</rfl:parameter>\n<|call|>',
    },
}
