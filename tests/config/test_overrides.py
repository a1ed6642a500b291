"""Which part of a command line becomes jobs and which becomes axes."""

import time

import pytest

from roofrack.config import cross, lift, with_study
from roofrack.config.overrides import parse
from roofrack.errors import InputError

GROUPS = {
    "hardware": ["a100_80gb", "b200", "h100_sxm"],
    "model": ["deepseek_v3", "llama3_1_70b"],
    "experiment": ["fast_mode"],
}


def options(key: str) -> list[str]:
    return GROUPS.get(key, [])


LIFTED = [
    # numbers become an axis
    ("batch=1,2,4", "batch=[1,2,4]"),
    ("batch=choice(1,2,4)", "batch=[1,2,4]"),
    (
        "hardware.hbm_bytes_per_s=3e12,4e12",
        "hardware.hbm_bytes_per_s=[3000000000000.0,4000000000000.0]",
    ),
    ("racks=range(1,65)", "racks=${range:1,65,1}"),
    ("racks=range(64)", "racks=${range:0,64,1}"),
    ("racks=range(1,65,step=8)", "racks=${range:1,65,8}"),
    ("x.y=range(0.1,0.5,0.1)", "x.y=${range:0.1,0.5,0.1}"),
    ("batch=sort(4,1,2)", "batch=[1,2,4]"),
    ("+extra=1,2", "+extra=[1,2]"),
    # so do names and truth values that the compiled function takes as numbers
    ("workload.dtype.weights=bf16,fp8", "workload.dtype.weights=[bf16,fp8]"),
    ("parallelism.pp_batch=grow,fixed", "parallelism.pp_batch=[grow,fixed]"),
    ("parallelism.attention_dp=true,false", "parallelism.attention_dp=[true,false]"),
    ("economics.price=low,typical", "economics.price=[low,typical]"),
    (
        "hardware.fabric.scale_up.topology=ring,switched",
        "hardware.fabric.scale_up.topology=[ring,switched]",
    ),
    # groups and static names stay jobs, however they are written
    ("hardware=b200,h100_sxm", "hardware=b200,h100_sxm"),
    ("hardware=[b200,h100_sxm]", "hardware=b200,h100_sxm"),
    ("hardware=glob(*)", "hardware=a100_80gb,b200,h100_sxm"),
    ("hardware=glob(*,exclude=b*)", "hardware=a100_80gb,h100_sxm"),
    ("workload.phase=decode,prefill", "workload.phase=decode,prefill"),
    ("overlap=[ideal,smooth]", "overlap=ideal,smooth"),
    # what cannot be an element of an axis stays a sweep over jobs
    ("racks=null,2", "racks=null,2"),
    ("batch=[1,2],[3,4]", "batch=[1,2],[3,4]"),
    # and what is no sweep stays as it was written
    ("batch=[1,2,4]", "batch=[1,2,4]"),
    ("batch=${geom:1,65536,17}", "batch=${geom:1,65536,17}"),
    ("batch=8", "batch=8"),
    ("hardware=b200", "hardware=b200"),
    ("hydra.searchpath=[mine]", "hydra.searchpath=[mine]"),
    ("~experiment", "~experiment"),
]


@pytest.mark.parametrize(("given", "expected"), LIFTED, ids=[given for given, _ in LIFTED])
def test_lift(given: str, expected: str):
    assert lift([given], options) == [expected]


@pytest.mark.parametrize(("given", "expected"), LIFTED, ids=[given for given, _ in LIFTED])
def test_lifting_again_changes_nothing(given: str, expected: str):
    assert lift([expected], options) == [expected]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("batch=interval(1,9)", "an interval has no values"),
        ("batch=shuffle(1,2,3)", "cannot be reproduced"),
        ("batch=shuffle(range(9))", "cannot be reproduced"),
        ("batch=glob(*)", "chooses among the files of a group"),
        ("batch=[]", "at least one value"),
        ("hardware=glob(zz*)", "matches nothing; allowed: a100_80gb, b200, h100_sxm"),
        ("hardware=range(1,3)", "cannot choose hardware"),
        ("hardware=null", "one file of this group is needed; allowed: a100_80gb"),
        ("batch=geom(1,64,7)", r"write 'batch=\$\{geom:1,64,7\}'"),
        ("h100_sxm", "write key=value"),
        ("", "write key=value"),
        ("batch=", "write batch=null for none"),
        ("batch=[1,2", "not a legal override"),
    ],
)
def test_refusals(given: str, message: str):
    with pytest.raises(InputError, match=message):
        lift([given], options)


@pytest.mark.parametrize("form", ["batch=[{}]", "batch={}"])
def test_a_long_list_is_refused_before_it_is_parsed(form: str):
    begin = time.perf_counter()
    with pytest.raises(InputError, match=r"10000 values .* allowed: 1000; .*\$\{geom:lo,hi,n\}"):
        parse([form.format(",".join(map(str, range(10_000))))])
    assert time.perf_counter() - begin < 1  # Hydra's parser takes 19 s


def test_jobs_are_the_product_and_keep_what_was_written():
    given = ["hardware=b200,h100_sxm", "batch=${geom:1,64,7}", "overlap=ideal,none", "pp=1,2"]
    assert cross(parse(lift(given, options))) == [
        [f"hardware={h}", "batch=${geom:1,64,7}", f"overlap={o}", "pp=[1,2]"]
        for h in ("b200", "h100_sxm")
        for o in ("ideal", "none")
    ]


def test_of_a_key_given_twice_the_later_counts():
    assert cross(parse(["batch=1", "pp=2", "batch=4"])) == [["batch=4", "pp=2"]]


STUDY = {"hardware": "glob(*)", "batch": "${geom:1,64,7}", "racks": "range(1,9)", "pp": [1, 2]}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([], ["hardware", "batch", "racks", "pp"]),
        (["batch=1,2"], ["hardware", "racks", "pp"]),
        (["workload.batch=3"], ["hardware", "racks", "pp"]),  # the leaf that `batch` writes
        (["parallelism.dp=2", "hardware=b200"], ["batch", "pp"]),
    ],
)
def test_the_command_line_replaces_parts_of_a_study(given: list[str], kept: list[str]):
    combined = with_study(STUDY, given)
    assert [text.split("=")[0] for text in combined] == kept + [t.split("=")[0] for t in given]


def test_a_study_may_write_lists_and_drop_axes():
    assert with_study({"pp": [1, 2], "batch": None, "parallelism.attention_dp": True}, []) == [
        "pp=[1,2]",
        "parallelism.attention_dp=true",
    ]
