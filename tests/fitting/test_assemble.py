"""Which fit a calibration takes of each kernel, and what stands in where there is none."""

import numpy as np
import pytest

from roofrack import config
from roofrack.errors import InputError
from roofrack.fitting import build, families, links
from roofrack.fitting.assemble import NEAREST, Choice, Source, Told, assemble
from roofrack.fitting.classes import CLASSES
from roofrack.fitting.document import record
from roofrack.fitting.fit import Fit
from roofrack.fitting.forms import SUBJECTS, Fitted, Subject, forms


def fitted(of, backend, missed=0.1, rel_std=0.2, given=None, **numbers):
    """A fit as of a table: the starts of the bounds, but for `numbers`."""
    form = forms(of)[0].knowing(given or {})
    values = {n: b.start for n, b in form.bounds.items()} | numbers
    one = Fit(values, np.eye(len(values)), 100, missed, missed, missed, rel_std)
    return Fitted(one, form.given, "chip", backend, "1.0", of.formats)


def source(**of_backend):
    """A source of fits, by backend: those of each a function of the subject."""

    def fit(of, backend):
        return of_backend[backend](of) if backend in of_backend else None

    return Source(
        "here", fit, lambda of, choice: Told(choice.fitted, record(choice.fitted)),
        lambda of, poor: None,
    )  # fmt: skip


def only(*subjects, backend="vllm", **other):
    return lambda of: fitted(of, backend, **other) if of in subjects else None


def every(backend, **other):
    return lambda of: fitted(of, backend, **other)


@pytest.fixture(scope="module")
def default():
    return config.compose(["calibration=default"])["calibration"]


def backends_of(tree):
    return {of: noted["data"].split()[1] for of, noted in tree["fits"].items()}


def test_every_kind_of_format_has_others_near_it():
    assert {kind for of in CLASSES.values() for kind in of.kinds} <= set(NEAREST)


def test_what_the_backend_has_is_taken_and_nothing_assumed():
    tree = assemble(source(vllm=every("vllm"), trtllm=every("trtllm"), nccl=every("nccl")), "vllm")
    assert tree["assumed"] == {}
    assert list(tree["fits"]) == [of.noted for of in SUBJECTS]
    taken = backends_of(tree)
    assert {of for of, backend in taken.items() if backend == "nccl"} == {
        "scale_up.all_gather", "scale_up.all_to_all",
    }  # fmt: skip
    assert set(taken.values()) == {"vllm", "nccl"}
    for name, of in CLASSES.items():
        assert list(tree["kernel"][name]) == list(of.kinds)
    assert tree["kernel"]["moe"]["fp8"]["rel_std"] == 0.2
    assert all("rel_std" not in link for link in tree["scale_up"].values())
    assert not tree["fused_quantization"]


def test_the_next_backend_is_taken_where_one_misses_too_much():
    tree = assemble(source(sglang=every("sglang", missed=0.4), vllm=every("vllm")), "sglang")
    assert backends_of(tree)["moe.bf16"] == "vllm"
    assert backends_of(tree)["scale_up.all_reduce"] == "vllm"


def test_the_nearest_format_stands_in():
    here = only(Subject("moe", "bf16"), Subject("moe", "w4a16"))
    tree = assemble(source(vllm=here), "vllm")
    assert tree["kernel"]["moe"]["w4a8"] == tree["kernel"]["moe"]["w4a16"]
    assert tree["assumed"]["kernel.moe.w4a8"] == "as w4a16: no table of this format here"
    assert tree["assumed"]["kernel.moe.fp8"] == "as bf16: no table of this format here"
    assert "kernel.moe.bf16" not in tree["assumed"]


def test_a_class_without_tables_is_as_in_the_default(default):
    tree = assemble(source(vllm=only(Subject("gemm", "bf16"))), "vllm")
    for kind in CLASSES["mla_decode"].kinds:
        assert tree["kernel"]["mla_decode"][kind] == default["kernel"]["mla_decode"][kind]
        said = tree["assumed"][f"kernel.mla_decode.{kind}"]
        assert said == "as in calibration=default: no table that the form describes"
    assert tree["kernel"]["gemm"]["bf16"] != default["kernel"]["gemm"]["bf16"]
    kept = ("scale_out", "step_s", "hbm_usable", "layer_s")
    assert {n: tree[n] for n in kept} == {n: default[n] for n in kept}
    assert "name" not in tree and "sources" not in tree


def test_exchanges_of_experts_are_the_librarys_where_they_have_no_table(default):
    tree = assemble(source(nccl=only(Subject("all_to_all"), efficiency=0.9)), "vllm")
    for name in links.EXPERTS:
        assert tree["scale_up"][name]["efficiency"] == 0.9
        assert tree["assumed"][f"scale_up.{name}"].startswith("as all_to_all: no table")
    assert tree["scale_up"]["all_reduce"] == default["scale_up"]["all_reduce"]
    bare = assemble(source(), "vllm")
    assert bare["scale_up"]["dispatch"] == default["scale_up"]["dispatch"]
    assert bare["assumed"]["scale_up.dispatch"].startswith("as in calibration=default: no table")


@pytest.mark.parametrize(
    ("asked", "given", "kind", "expected"),
    [
        ("trtllm", None, "fp8", "vllm"),  # the least fixed time, for it has the least quantising
        ("trtllm", {"quantize_s": 1e-6}, "fp8", "trtllm"),  # another table says what that takes
        ("trtllm", None, "bf16", "trtllm"),  # which nothing quantises
        ("vllm", None, "fp8", "vllm"),  # which quantises apart
    ],
)
def test_products_that_hide_quantisation_are_told_by_their_fixed_time(asked, given, kind, expected):
    of = Subject("gemm", kind)
    fits = {
        # of the usual depth: 5 + 4.1, 6 + 2.05 and 3 + 6.1 microseconds
        "trtllm": only(of, backend="trtllm", given=given, launch_s=5e-6, depth_s=1e-9),
        "vllm": only(of, backend="vllm", launch_s=6e-6, depth_s=5e-10),
        "sglang": only(of, backend="sglang", launch_s=3e-6, depth_s=1.5e-9),
    }
    assert backends_of(assemble(source(**fits), asked))[of.noted] == expected


def test_links_have_the_mean_square_of_their_errors_but_for_experts():
    def here(of):
        spread = {"all_reduce": 0.3, "all_gather": 0.4}.get(of.name, 5.0)
        return fitted(of, "any", rel_std=spread) if of.name != "all_to_all" else None

    tree = assemble(source(vllm=here, nccl=here), "vllm")
    assert tree["link_rel_std"] == pytest.approx(np.sqrt((0.3**2 + 0.4**2) / 2), rel=1e-3)
    assert assemble(source(), "vllm")["link_rel_std"] == 0.5  # half to double


def test_a_chip_takes_no_fit_that_misses_too_much(monkeypatch, default):
    def poor(chip, of, backend):
        return fitted(of, backend, missed=0.1 if of.kind else 0.5)

    monkeypatch.setattr(build, "_fit", poor)
    tree = build.build("h200_sxm", "trtllm")
    assert tree["scale_up"] == default["scale_up"]
    assert not any(of.startswith("scale_up") for of in tree["fits"])


def test_a_family_takes_the_best_there_is_of_links(monkeypatch):
    def poor(chips, of, backend):
        missed = {"trtllm": 0.6, "vllm": 0.5, "sglang": 0.7, "nccl": 0.9}[backend]
        exchange = of.name in links.EXPERTS
        return None if exchange else fitted(of, backend, missed=0.1 if of.kind else missed)

    monkeypatch.setattr(families, "_fit", poor)
    monkeypatch.setattr(families, "_unseen", lambda chips, of, backend: {})
    tree = families.family(["l40s"], "trtllm")
    assert backends_of(tree)["scale_up.all_reduce"] == "vllm"
    assert tree["assumed"]["scale_up.all_reduce.rel_std"].startswith("of held-out shapes")
    assert tree["assumed"]["scale_up.dispatch"].startswith("as all_to_all")
    monkeypatch.setattr(
        families, "_fit", lambda chips, of, backend: fitted(of, backend) if of.kind else None
    )
    with pytest.raises(InputError, match="no table of all_reduce on l40s"):
        families.family(["l40s"], "trtllm")


def test_a_family_states_the_error_of_chips_not_seen(monkeypatch):
    errors = {"a": families.Left(0.25, 0.3, 9), "b": families.Left(0.3, 0.4, 9)}
    monkeypatch.setattr(families, "_unseen", lambda chips, of, backend: errors)
    of = Subject("moe", "bf16")
    told = families._tell(["a", "b"], of, Choice("vllm", fitted(of, "vllm")))
    assert told.fitted.fit.rel_std == pytest.approx(np.sqrt((0.3**2 + 0.4**2) / 2))
    assert told.record["left_out"] == "a 0.25 b 0.3"
    assert not told.assumed


def test_a_chip_without_any_table_is_refused(monkeypatch):
    monkeypatch.setattr(build, "_fit", lambda chip, of, backend: None)
    with pytest.raises(InputError, match="chip=l40s: no table"):
        build.build("l40s", "vllm")
    with pytest.raises(InputError, match=r"chip=l40: allowed.*'l40s'"):
        build.build("l40", "vllm")
