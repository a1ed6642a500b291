"""Traces read from files: the samples, every column, every way a file can be bad."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roofrack import traffic
from roofrack.errors import InputError
from roofrack.traffic import Requests, read


@pytest.fixture
def given_file(tmp_path: Path) -> Any:
    """Writes a file and reads it."""

    def made(content: str | bytes, name: str = "trace.csv", **asked: Any) -> Requests:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read(path, **asked)

    return made


@pytest.mark.parametrize(
    ("name", "count", "first", "last", "duration"),
    [
        # dates and lengths as they stand in the first and last line of each sample
        ("azure_2023_conv", 1500, (374, 44), None, 309.528484),
        ("azure_2023_code", 1000, (4808, 10), None, 521.588576),
        ("mooncake_conversation", 600, (6758, 500), (2352, 14), 200.999),
    ],
)
def test_the_samples_are_what_was_published(
    name: str, count: int, first: tuple[int, int], last: Any, duration: float
) -> None:
    made = read(name)
    assert len(made) == count and not made.rejected and made.out_of_order == 0
    assert (made.prompt[0], made.output[0]) == first
    assert made.duration_s == pytest.approx(duration, abs=1e-9)
    if last:
        assert (made.prompt[-1], made.output[-1]) == last
    assert (made.hashes is not None) == name.startswith("mooncake")


def test_samples_have_the_lengths_of_their_traces() -> None:
    # means that Azure's and Mooncake's whole traces have: conf/workload quotes them
    whole = {"azure_2023_conv": (1154.7, 211.1), "azure_2023_code": (2047.8, 27.9)}
    whole["mooncake_conversation"] = (12035.1, 342.6)
    for name, (prompt, output) in whole.items():
        told = read(name).summary()
        assert told.prompt.mean == pytest.approx(prompt, rel=0.25)
        assert told.output.mean == pytest.approx(output, rel=0.25)


def test_mooncake_blocks_cover_their_prompts() -> None:
    made = read("mooncake_conversation")
    assert made.hashes is not None and made.hashes.block_tokens == 512
    assert (np.diff(made.hashes.offsets) == -(-made.prompt // 512)).all()
    assert made.hashes.ids[:3].tolist() == [0, 1, 2]


def test_samples_ship_with_their_licences() -> None:
    folder = traffic.reading.FOLDER
    assert {p.name for p in folder.iterdir()} == {*traffic.SAMPLES.values(), "README.md"}
    told = (folder / "README.md").read_text()
    assert all(f"`{name}`" in told for name in traffic.SAMPLES)
    assert "CC-BY 4.0" in told and "Apache-2.0" in told
    assert sum(p.stat().st_size for p in folder.iterdir()) < 600_000


SECONDS = [
    ("arrival_s", ["10", "10.25", "12"]),
    ("timestamp_ms", ["10000", "10250", "12000"]),
    ("timestamp", ["10000", "10250.0", "12e3"]),
    ("TIMESTAMP", ["2023-11-16 23:59:59", "2023-11-16 23:59:59.2500000", "2023-11-17 00:00:01.0"]),
    ("TIMESTAMP", ["2023-11-16T23:59:59Z", "2023-11-16T23:59:59.25Z", "2023-11-17T00:00:01Z"]),
    (
        "TIMESTAMP",
        ["2024-05-10 01:00:00+00:00", "2024-05-10 02:00:00.25+01:00", "2024-05-10 01:00:02"],
    ),
]


@pytest.mark.parametrize(("column", "times"), SECONDS)
@pytest.mark.parametrize("lengths", [("prompt", "output"), ("ContextTokens", "output_length")])
def test_every_column_of_time_means_the_same(
    given_file: Any, column: str, times: list[str], lengths: tuple[str, str]
) -> None:
    table = "\n".join([",".join((column, *lengths)), *(f"{t},8,3" for t in times)])
    assert given_file(table).arrival_s.tolist() == [0.0, 0.25, 2.0]
    rows = [
        {column: t if column == "TIMESTAMP" else float(t), lengths[0]: 8, lengths[1]: 3}
        for t in times
    ]
    lines = "\n".join(json.dumps(row) for row in rows)
    made = given_file(lines, "trace.jsonl")
    assert made.arrival_s.tolist() == [0.0, 0.25, 2.0]
    assert made.prompt.tolist() == [8] * 3 and made.output.tolist() == [3] * 3


def test_a_table_is_read_however_it_was_written(given_file: Any) -> None:
    told = given_file(
        b'\xef\xbb\xbfnote,output, prompt,"cached",arrival_s \r\n'
        b'"a, b",2, 9 ,,1\r\n\r\n,"3",7.0,4,0.5'
    )
    assert told.arrival_s.tolist() == [0.0, 0.5] and told.out_of_order == 1
    assert told.prompt.tolist() == [7, 9] and told.cached.tolist() == [4, 0]
    assert told.rejected == {"no arrival time": 1}  # the empty line


def test_rows_behind_a_later_one_are_sorted_and_counted(given_file: Any) -> None:
    times = [1, 5, 3, 4, 5, 6, 2]
    rows = "".join(f"{time},{n + 1},1\n" for n, time in enumerate(times))
    made = given_file("arrival_s,prompt,output\n" + rows)
    assert made.out_of_order == 3  # 3, 4 and 2
    assert made.prompt.tolist() == [1, 7, 3, 4, 2, 5, 6]


def test_blocks_follow_their_requests(given_file: Any) -> None:
    rows = [
        {"timestamp": 5, "input_length": 9, "output_length": 1, "hash_ids": [1, 2, 3]},
        {"timestamp": 9, "input_length": 0, "output_length": 1, "hash_ids": [7]},
        {"timestamp": 1, "input_length": 6, "output_length": 1, "hash_ids": [4, 5]},
        {"timestamp": 7, "input_length": 6, "output_length": 1},
        {"timestamp": 8, "input_length": 3, "output_length": 1, "hash_ids": []},
        {"timestamp": 8, "input_length": 3, "output_length": 1, "hash_ids": [1]},
    ]
    made = given_file("\n".join(map(json.dumps, rows)), "t.jsonl", block_tokens=4)
    assert made.hashes.ids.tolist() == [4, 5, 1, 2, 3, 1]
    assert made.hashes.offsets.tolist() == [0, 2, 5, 5, 5, 6]
    assert made.hashes.block_tokens == 4
    assert (made.rejected, made.out_of_order) == ({"prompt below 1": 1}, 1)


cells = st.sampled_from(["", "NaN", "inf", "-1", "0", "1", "2.5", "3", "20", "1e12"])


@settings(max_examples=80)
@given(st.lists(st.tuples(cells, cells, cells, cells), min_size=1, max_size=12))
def test_every_row_is_a_request_or_counted(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "rows.csv"
    path.write_text("\n".join(["arrival_s,prompt,output,cached", *map(",".join, rows)]))
    good = []
    for row in rows:
        time, prompt, output, cached = (float(cell or "nan") for cell in row)
        cached = float(row[3] or 0)
        whole = all(1 <= n <= 1e9 and n == int(n) for n in (prompt, output) if math.isfinite(n))
        whole &= math.isfinite(prompt) and math.isfinite(output) and math.isfinite(cached)
        if whole and 0 <= time < math.inf and cached == int(cached) and 0 <= cached <= prompt:
            good.append((time, int(prompt), int(output), min(int(cached), int(prompt) - 1)))
    if not good:
        with pytest.raises(InputError, match=f"none of its {len(rows)} rows is a request"):
            read(path)
        return
    made = read(path)
    assert len(made) == len(good) and sum(made.rejected.values()) == len(rows) - len(good)
    ordered = sorted(good, key=lambda row: row[0])
    assert made.arrival_s.tolist() == [row[0] - ordered[0][0] for row in ordered]
    for name, at in (("prompt", 1), ("output", 2), ("cached", 3)):
        assert getattr(made, name).tolist() == [row[at] for row in ordered]
    late = sum(row[0] < max(r[0] for r in good[: i + 1]) for i, row in enumerate(good))
    assert made.out_of_order == late


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",8,3,0", "no arrival time"),
        ("nan,8,3,0", "no arrival time"),
        ("-1,8,3,0", "arrival before 0"),
        ("1,,3,0", "no prompt length"),
        ("1,0,3,0", "prompt below 1"),
        ("1,-8,3,0", "prompt below 1"),
        ("1,8.5,3,0", "prompt not whole"),
        ("1,8e9,3,0", "prompt above 1,000,000,000"),
        ("1,8,,0", "no output length"),
        ("1,8,0,0", "output below 1"),
        ("1,8,3,-1", "cached below 0"),
        ("1,8,3,nan", "no cached length"),
        ("1,8,3,9", "cached above prompt"),
        ("1,8", "no output length"),
    ],
)
def test_rows_that_are_no_requests_are_counted(given_file: Any, row: str, reason: str) -> None:
    made = given_file(f"arrival_s,prompt,output,cached\n0,8,3,0\n{row}\n2,8,3,8\n{row}\n")
    assert made.rejected == {reason: 2}
    assert made.cached.tolist() == [0, 7] and made.arrival_s.tolist() == [0.0, 2.0]


HEAD = "arrival_s,prompt,output\n"
LINE = '{"timestamp": 1, "input_length": 5, "output_length": 2}\n'
FILES: list[tuple[str, str | bytes, list[str]]] = [
    ("t.csv", "", ["t.csv: empty"]),
    ("t.csv", " \n\n", ["t.csv: empty"]),
    ("t.csv", b"\xef\xbb\xbf", ["t.csv: empty"]),
    ("t.csv", HEAD, ["no rows"]),
    ("t.csv", "arrival,prompt,output\n1,2,3", ["arrival time", "Did you mean 'arrival'?"]),
    ("t.csv", "arrival_s,promt,output\n1,2,3", ["prompt length", "Did you mean 'promt'?"]),
    ("t.csv", "arrival_s,prompt,tokens\n1,2,3", ["output length", "arrival_s, prompt, tokens"]),
    ("t.csv", "2023-11-16 18:15:46.68,374,44\n", ["no column of arrival time"]),
    ("t.csv", "arrival_s,timestamp,prompt,output\n1,1,2,3", ["arrival_s and timestamp"]),
    ("t.csv", "arrival_s,prompt,prompt,output\n1,1,2,3", ["two columns are named prompt"]),
    ("t.csv", "arrival_s,prompt, prompt,output\n1,1,2,3", ["two columns are named prompt"]),
    ("t.csv", '\n\n"arrival_s\n",prompt,output\n\n1,1,2\n1,x,2', ["line 7: prompt=x"]),
    (
        "t.csv",
        'prompt,a,arrival_s,output\n1,"\n\n",1,2\n\n1,"\n",2\r3,2',
        ["line 6: arrival_s=2 3"],
    ),
    ("t.csv", '"arrival_s,prompt,output\n1,1,2\n', ["no column of arrival time"]),
    ("t.csv", "arrival_s,prompt,output,hash_ids\n1,2,3,4", ["hash_ids", ".jsonl"]),
    ("t.csv", HEAD + "1,2,3\n2,abc,3\n", ["line 3: prompt=abc: a number"]),
    ("t.csv", HEAD + '1,2,3\n\n"2",2,3x\n', ["line 4: output=3x"]),
    ("t.csv", HEAD + "1,2,3\n1,2,3,4\n", ["line 3: 4 values for 3 columns"]),
    ("t.csv", HEAD + '1,2,"3\n1,2,3\n', ["t.csv: "]),
    ("t.csv", b"arrival_s,prompt,output\n1,2,\xff\xfe\n", ["not a CSV table"]),
    ("t.csv", "TIMESTAMP,prompt,output\n17,2,3\n", ["line 2: TIMESTAMP=17: a date and time"]),
    ("t.csv", "TIMESTAMP,prompt,output\n2023-02-30 00:00:00,2,3", ["2023-02-30 00:00:00"]),
    ("t.csv", HEAD + "1,0,3\n1,2,0\n1,0,0\n", ["none of its 3 rows", "prompt below 1 (2)"]),
    ("t.jsonl", "", ["t.jsonl: empty"]),
    ("t.jsonl", LINE + "hello\n", ["line 2: not JSON"]),
    ("t.jsonl", LINE + LINE[:20] + "\n" + LINE, ["line 2: not JSON"]),
    ("t.jsonl", "[1, 2]\n", ["line 1: not a JSON object"]),
    ("t.jsonl", LINE + "[1, 2]\n", ["line 2: not a JSON object"]),
    ("t.jsonl", LINE + LINE.replace("5", "NaN"), ["line 2: not JSON"]),
    ("t.jsonl", LINE + LINE.replace("5", '"abc"'), ['line 2: input_length="abc": a number']),
    ("t.jsonl", LINE + LINE.replace("5", "true"), ["line 2: input_length=true"]),
    ("t.jsonl", LINE + LINE.replace("5", "[5]"), ["line 2: input_length=[5]"]),
    ("t.jsonl", LINE.replace("input_length", "input_len"), ["Did you mean 'input_len'?"]),
    ("t.jsonl", LINE + LINE.replace("}", ', "hash_ids": 3}'), ["line 2: hash_ids=3: a list"]),
    ("t.jsonl", LINE + LINE.replace("}", ', "hash_ids": ["a"]}'), ["line 2: hash_ids"]),
    ("t.jsonl", LINE + LINE.replace("}", ', "hash_ids": [1, null]}'), ["line 2: hash_ids"]),
    ("t.jsonl", LINE + LINE.replace("}", f', "hash_ids": [{2**70}]}}'), ["line 2: hash_ids"]),
    ("t.jsonl", LINE + LINE.replace("1,", '"x",').replace("timestamp", "TIMESTAMP"), []),
    ("t.jsonl", '{"TIMESTAMP": "x", "prompt": 1, "output": 1}', ["line 1: TIMESTAMP=x"]),
    ("t.jsonl", '\n\n{"TIMESTAMP": "x", "prompt": 1, "output": 1}', ["line 3: TIMESTAMP=x"]),
    ("t.jsonl", '{"TIMESTAMP": 17, "prompt": 1, "output": 1}', ["line 1: TIMESTAMP=17"]),
    ("t.parquet", "PAR1", ["t.parquet: a trace is a file of kind .csv, .jsonl"]),
    ("trace", HEAD, ["no trace of this name"]),
]


@pytest.mark.parametrize(("name", "content", "words"), FILES)
def test_a_bad_file_gives_one_clear_line(
    given_file: Any, name: str, content: str | bytes, words: list[str]
) -> None:
    if not words:  # a row without an arrival time, among others
        assert given_file(content, name).rejected == {"no arrival time": 1}
        return
    with pytest.raises(InputError) as caught:
        given_file(content, name)
    told = str(caught.value)
    assert name in told and "\n" not in told and len(told) < 400
    assert all(word in told for word in words), told


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("azure_2023_con", "Did you mean 'azure_2023_conv'?"),
        ("nowhere.csv", "nowhere.csv: cannot be read: No such file"),
        ("", "no trace of this name"),
        ("a\0b.csv", "no name of a file"),
    ],
)
def test_a_file_that_is_not_there(name: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        read(name)
    assert words in str(caught.value)


def test_folders_pipes_and_blocks_of_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match="not a file"):
        read(tmp_path / "folder.csv")
    with pytest.raises(InputError, match="block_tokens=0"):
        read("mooncake_conversation", block_tokens=0)


@settings(max_examples=60)
@given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode), st.booleans())
def test_rubbish_is_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, table: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / ("rubbish.csv" if table else "rubbish.jsonl")
    for text in (content, (HEAD if table else LINE).encode() + content):
        path.write_bytes(text)
        try:
            assert len(read(path)) >= 1
        except InputError as error:
            assert "\n" not in str(error) and "rubbish" in str(error)
