"""The estimate of the Python contract: a dict, a pytree, and a table to read."""

from html.parser import HTMLParser

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model.cases import columns

import roofrack
from roofrack.answer import Estimate
from roofrack.leaves import put
from roofrack.nouns import Scenario
from roofrack.results.schema import COLUMNS, RESULTS


class Text(HTMLParser):
    """Collects tags in order, and the text between them."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(html: str) -> Text:
    parser = Text()
    parser.feed(html)
    parser.close()
    assert not parser.open
    return parser


@pytest.fixture(scope="module")
def one() -> Estimate:
    return roofrack.estimate(roofrack.scenario("batch=64"))


def shown(*overrides: str) -> Estimate:
    """Return an estimate by NumPy: nothing to compile."""
    return Estimate(columns(roofrack.scenario(*overrides)))


def test_it_is_a_dict_in_the_order_of_the_schema(one: Estimate) -> None:
    assert isinstance(one, dict)
    assert set(one) == set(RESULTS) - {"valid"} | {"chips", "racks"}
    assert list(one) == [name for name in COLUMNS if name in one]
    assert dict(one)["step_s"] == one["step_s"]


def test_tables_say_the_same(one: Estimate) -> None:
    text, html = repr(one), read(one._repr_html_())
    assert html.tags <= {"table", "caption", "tr", "th", "td"}
    for group in ("time", "rates", "memory", "money", "structure"):
        assert group in html.words
        assert f"\n{group}\n" in f"\n{text}"
    for name in ("step_s", "mem_total_bytes", "usd_per_mtok", "params_total", "chips"):
        assert name in html.words and f"  {name} " in text
    assert f"{float(one['step_s']) * 1e3:.1f} ms" in html.words
    assert html.words[html.words.index("fits") + 1] == "yes"
    assert html.words[html.words.index("bound") + 1] in ("weights", "kv", "compute", "overhead")
    assert COLUMNS["mfu"].doc in html.words
    assert "ttft_s" not in html.words  # decode has none
    assert "t_scale_out_s" not in html.words  # 0: all within the node


def test_strings_are_escaped() -> None:
    html = Estimate({"<script>": 1.0, "step_s": 0.001})._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;" in html


def test_a_plan_that_cannot_run_says_why() -> None:
    invalid = shown("parallelism.tp=3")
    for text in (repr(invalid), " ".join(read(invalid._repr_html_()).words)):
        assert "this plan cannot run: tp does not divide the query heads" in text
        assert "chips" in text and "step_s" not in text


def test_axes_show_their_shape_and_the_first_points() -> None:
    many = shown("batch=[1,64,512]", "parallelism.tp=[3,4,8]", "context=[512,4096]")
    html = read(many._repr_html_())
    assert "18 points (3 x 2 x 3)" in repr(many)
    assert any("18 points (3 x 2 x 3)" in word for word in html.words)
    lines = repr(many).splitlines()
    assert len(lines) == 2 + 8  # title, heading, the first points
    assert lines[2].split()[:2] == ["[0][0][0]", "–"]  # tp=3 cannot run
    step = np.broadcast_to(np.asarray(many["step_s"]), (3, 2, 3))[0, 1, 1]
    assert lines[6].startswith("[0][1][1]") and f"{step * 1e3:.3g} ms" in lines[6]


def test_it_is_a_pytree(one: Estimate) -> None:
    halves = jax.tree.map(lambda x: np.asarray(x) / 2, one)
    assert isinstance(halves, Estimate) and list(halves) == list(one)
    assert halves["step_s"] == one["step_s"] / 2
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(one)]
    assert paths[0] == f"['{next(iter(one))}']"


def test_transformations_go_through() -> None:
    s = roofrack.scenario("batch=64")

    def at_batch(batch: jax.Array) -> Estimate:
        return roofrack.estimate(put(s, {"workload.batch": batch}))

    batches = jnp.asarray([1.0, 64.0])
    mapped = jax.jit(jax.vmap(at_batch))(batches)
    assert isinstance(mapped, Estimate)
    np.testing.assert_allclose(mapped["step_s"][1], roofrack.estimate(s)["step_s"], rtol=1e-6)

    seen: list[str] = []

    def traced(scenario: Scenario) -> jax.Array:
        columns = roofrack.estimate(scenario)
        seen.append(repr(columns))
        seen.append(columns._repr_html_())
        return columns["step_s"]

    jax.eval_shape(traced, jax.tree.map(jnp.asarray, s))
    assert seen[0].startswith("Estimate({") and seen[1].startswith("<pre>")
