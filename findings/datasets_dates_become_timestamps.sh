#!/bin/sh
# datasets: a JSON file whose answers are all written like 2024-03-01 is read as a column of timestamps, although every
# one of them is a quoted string. Its text is then "2024-03-01 00:00:00", which no grader finds equal to the answer, so
# that a set of questions about dates scores 0. Declaring the column a string does not help: the type is string then,
# and the text has the time behind it all the same, so that a check of types passes. One answer of another form among
# them, and all are read as written: a part of the same file, or its next version, behaves otherwise.
#
# What helps: read the file with json and make the set of the rows.
#
# Seen (pyarrow 26.0.1):
#   5.2.0 json, all dates: timestamp[s], 2024-03-01 00:00:00
#   5.2.0 json, dates and a number: string, 2024-03-01
#   5.2.0 json, all times: string, 12:30:00
#   5.2.0 json, all dates, declared: string, 2024-03-01 00:00:00
#   5.2.0 rows from Python, all dates: string, 2024-03-01
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/ask.py" <<'PYTHON'
import json
import pathlib
import sys

import datasets

folder = pathlib.Path(sys.argv[1])
datasets.disable_progress_bars()
declared = datasets.Features({"question": datasets.Value("string"), "answer": datasets.Value("string")})
cases = [
    ("all dates", ["2024-03-01", "2023-11-15"], None),
    ("dates and a number", ["2024-03-01", "17"], None),
    ("all times", ["12:30:00", "01:15:00"], None),
    ("all dates, declared", ["2024-03-01", "2023-11-15"], declared),
]
for number, (name, answers, features) in enumerate(cases):
    file = folder / f"{number}.jsonl"
    file.write_text("".join(json.dumps({"question": "When?", "answer": answer}) + "\n" for answer in answers))
    rows = datasets.load_dataset(
        "json", data_files=str(file), split="train", cache_dir=str(folder / "cache"), features=features
    )
    print(datasets.__version__, f"json, {name}: {rows.features['answer'].dtype}, {rows[0]['answer']}")
rows = datasets.Dataset.from_list([{"question": "When?", "answer": answer} for answer in cases[0][1]])
print(datasets.__version__, f"rows from Python, all dates: {rows.features['answer'].dtype}, {rows[0]['answer']}")
PYTHON
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "datasets==5.2.0" "pyarrow==26.0.1"
"$folder/venv/bin/python" "$folder/ask.py" "$folder" | tee "$folder/seen"
grep -q "all dates: timestamp" "$folder/seen"
grep -q "dates and a number: string, 2024-03-01$" "$folder/seen"
grep -q "declared: string, 2024-03-01 00:00:00" "$folder/seen"
