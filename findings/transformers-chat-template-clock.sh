#!/bin/sh
# transformers: a chat template that asks for today's date renders another prompt tomorrow, and from some version
# between 5.19.0 and 5.23.0 on nobody can tell it another day: variables given to apply_chat_template are made
# plain data first, so that a function becomes a text. In 5.19.0 strftime_now=... replaced the clock.
#
# What helps in both: a macro of the same name in front of the template.
#
# Seen:
#   5.19.0 function: 1999, macro: 1999
#   5.23.0 function: TypeError: 'str' object is not callable, macro: 1999
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/render.py" <<'PYTHON'
import transformers
from tokenizers import Tokenizer, models

tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
)
template, turns = "{{ strftime_now('%Y') }}", [{"role": "user", "content": "a"}]


def rendered(text, **variables):
    try:
        return tokenizer.apply_chat_template(turns, chat_template=text, tokenize=False, **variables)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


function = rendered(template, strftime_now=lambda form: "1999")
macro = rendered("{% macro strftime_now(form) %}{{ form | replace('%Y', '1999') }}{% endmacro %}\n" + template)
print(f"{transformers.__version__} function: {function}, macro: {macro}")
PYTHON
for version in 5.19.0 5.23.0; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install --quiet --disable-pip-version-check "transformers==$version" "jinja2==3.1.6"
    "$folder/$version/bin/python" "$folder/render.py" 2> /dev/null | tee -a "$folder/seen"
done
cat > "$folder/expected" <<'TEXT'
5.19.0 function: 1999, macro: 1999
5.23.0 function: TypeError: 'str' object is not callable, macro: 1999
TEXT
cmp "$folder/seen" "$folder/expected"
