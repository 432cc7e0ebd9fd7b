"""Modules' own code drawn by fastinit: every call of torch.nn.init, layers, whole models, what is refused."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import fastinit as fi

pytest.importorskip("torch", reason="needs torch: pip install 'fastinit-weights[torch]'")
import torch
import torch.nn as nn
import torch.nn.init as init

import fastinit.torch as ft

SEED = 3


@contextmanager
def generator_left_alone() -> Iterator[None]:
    """Fail if torch's own generator was used."""
    state = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), state)


@contextmanager
def nan_in_fresh_memory() -> Iterator[None]:
    """Let torch fill memory that it gives out with NaN, and integers with their largest value."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def on_meta(make: Callable[[], Any]) -> Any:
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of transformers and TransformerEncoder, about their configurations
        return make()


def filled(one: Any, name: str, seed: int) -> Any:
    """Return what `fastinit.fill` gives by the name: the oracle, which knows nothing of modules."""
    tensor = fi.array(one.shape, one.init, seed=seed, name=name, dtype=one.dtype)
    for box, part in one.regions:
        fi.fill(tensor[box.slices], part, seed=seed, name=name, global_shape=one.shape, global_offset=box.offset)
    return tensor.astype(np.float64)


def check(module: Any, report: ft.InitializationReport, prefix: str = "") -> None:
    """Compare every tensor with `filled`; those that torch computed have to be numbers."""
    tensors = dict([*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)])
    assert {prefix + name for name in tensors} == {
        name for one in report.tensors.values() for name in (one.name, *one.aliases)
    }
    for name, one in report.tensors.items():
        tensor = tensors[name.removeprefix(prefix)].detach()
        assert torch.isfinite(tensor).all(), name
        for alias in one.aliases:
            assert tensors[alias.removeprefix(prefix)].data_ptr() == tensor.data_ptr(), alias
        if one.init is not None:
            assert np.array_equal(tensor.double().numpy(), filled(one, name, report.seed)), name
        else:
            assert one.computed, name


CALLS: dict[str, tuple[Callable[..., Any], tuple[int, ...], fi.Initializer]] = {
    "uniform_": (lambda f, t: f(t, -0.5, 0.25), (4, 6), fi.uniform(-0.5, 0.25)),
    "normal_": (lambda f, t: f(t, 1.0, 0.5), (4, 6), fi.normal(1.0, 0.5)),
    "constant_": (lambda f, t: f(t, 0.5), (4, 6), fi.constant(0.5)),
    "ones_": (lambda f, t: f(t), (4, 6), fi.ones()),
    "zeros_": (lambda f, t: f(t), (4, 6), fi.zeros()),
    "eye_": (lambda f, t: f(t), (4, 6), fi.eye()),
    "dirac_": (lambda f, t: f(t, 2), (4, 2, 3), fi.dirac(2)),
    "xavier_uniform_": (lambda f, t: f(t, 2.0), (4, 20), fi.uniform(-1.0, 1.0)),
    "xavier_normal_": (lambda f, t: f(t, 2.0), (4, 4), fi.normal(0.0, 1.0)),
    "kaiming_uniform_": (lambda f, t: f(t, nonlinearity="linear"), (4, 12), fi.uniform(-0.5, 0.5)),
    "kaiming_normal_": (lambda f, t: f(t, mode="fan_out"), (8, 3), fi.normal(0.0, 0.5)),
    "trunc_normal_": (
        lambda f, t: f(t, 0.0, 0.02, -0.03, 0.05),
        (4, 6),
        fi.truncated_normal(0.0, 0.02, -0.03, 0.05, bounds="absolute"),
    ),
    "orthogonal_": (lambda f, t: f(t, 2.0), (4, 6), fi.orthogonal(2.0)),
    "sparse_": (lambda f, t: f(t, 0.5), (4, 6), fi.sparse(0.5)),
}
PRIMITIVE = {name: getattr(init, name) for name in CALLS}  # bound before any context is open, as by a from-import


def styles(name: str) -> dict[str, Any]:
    """Return a function of torch.nn.init under every style of import."""
    found: dict[str, Any] = {"attribute": getattr(init, name), "from-import": PRIMITIVE[name]}
    if hasattr(init, name[:-1]):
        found["deprecated"] = getattr(init, name[:-1])
    transformers = pytest.importorskip("transformers.initialization", reason="needs transformers")
    found["transformers"] = transformers.TORCH_INIT_FUNCTIONS[name]
    return found


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.filterwarnings("ignore:.*is now deprecated:FutureWarning")
def test_each_function_under_each_style_of_import(name: str) -> None:
    call, shape, wanted = CALLS[name]
    for style, function in styles(name).items():
        module = nn.Module()
        module.w = nn.Parameter(torch.full(shape, torch.nan))
        with generator_left_alone(), ft.drawing(module, seed=SEED, prefix="p.") as drawn:
            assert call(function, module.w) is module.w
        one = drawn.report().tensors["p.w"]
        found = one.init
        assert found is not None, style
        assert found.factory == wanted.factory, style
        if isinstance(wanted.resolve(shape), fi.Distribution):
            ours, theirs = (one.distribution(shape) for one in (found, wanted))
            numbers = [(one.mean, one.std, *one.support) for one in (ours, theirs)]
            assert type(ours) is type(theirs), style
            assert numbers[0] == pytest.approx(numbers[1], rel=4e-16), style  # torch may have rounded once more
        else:
            assert found == wanted, style
        check(module, drawn.report(), "p.")


@pytest.mark.parametrize(
    "draw",
    [
        lambda p: p.data.normal_(0.0, 0.5),
        lambda p: p.detach().normal_(0.0, 0.5),
        lambda p: p.detach().view(-1).normal_(0.0, 0.5),
        lambda p: p.detach().t().normal_(0.0, 0.5),
        lambda p: init.normal_(p.data.t(), 0.0, 0.5),
        lambda p: p.data.copy_(torch.empty_like(p).normal_(0.0, 0.5)),
        lambda p: p.data.copy_(torch.normal(0.0, 0.5, p.shape)),
    ],
)
def test_each_method_and_view_of_the_whole(draw: Callable[[Any], Any]) -> None:
    module = nn.Linear(5, 3, bias=False)
    with ft.drawing(module, seed=SEED) as drawn:
        draw(module.weight)
    assert drawn.report().tensors["weight"].init == fi.normal(std=0.5)
    check(module, drawn.report())


def test_parts_get_their_values_of_the_whole() -> None:
    module = nn.Linear(8, 12, bias=False)
    whole = fi.array((12, 8), fi.normal(), seed=SEED, name="weight")
    with ft.drawing(module, seed=SEED) as drawn, torch.no_grad():
        for part in module.weight.chunk(3):
            part.normal_()
    assert np.array_equal(module.weight.detach().numpy(), whole)
    assert not drawn.report(complete=True).problems
    with ft.drawing(module, seed=SEED), torch.no_grad():
        module.weight.zero_()
        module.weight[2].normal_()
        module.weight[4:6, 3:].t().normal_()
        module.weight[7::2, ::3].normal_()
    expected = np.zeros_like(whole)
    for index in (np.s_[2], np.s_[4:6, 3:], np.s_[7::2, ::3]):
        expected[index] = whole[index]
    assert np.array_equal(module.weight.detach().numpy()[:7], expected[:7])
    assert len(np.unique(module.weight.detach().numpy()[7::2, ::3])) == 9  # no rectangle: a stream of its own


def test_matrices_of_one_parameter_differ() -> None:
    """An LSTM's four gates, each orthogonal: of one stream they would be equal."""
    module = nn.LSTM(6, 6)
    with ft.drawing(module, seed=SEED) as drawn:
        for gate in module.weight_hh_l0.chunk(4):
            init.orthogonal_(gate)
    gates = module.weight_hh_l0.detach().double().reshape(4, 6, 6)
    assert torch.allclose(gates @ gates.transpose(1, 2), torch.eye(6, dtype=torch.float64).expand(4, 6, 6), atol=1e-6)
    assert all(not torch.allclose(gates[a], gates[b], atol=0.1) for a in range(4) for b in range(a))
    found = drawn.report().tensors["weight_hh_l0"]
    assert (len(found.regions), found.computed) == (4, ())


def test_every_draw_advances_the_version() -> None:
    module = nn.Linear(4, 4, bias=False)
    with ft.drawing(module, seed=SEED):
        for draw in (init.normal_, init.orthogonal_, init.trunc_normal_, init.eye_):
            before = module.weight._version
            draw(module.weight)
            assert module.weight._version > before, draw


LAYERS: dict[str, Callable[[], Any]] = {
    "Linear": lambda: nn.Linear(5, 7),
    "Conv2d": lambda: nn.Conv2d(4, 8, 3, groups=2),
    "Conv2d, channels last": lambda: nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last),
    "ConvTranspose1d": lambda: nn.ConvTranspose1d(4, 6, 3),
    "Embedding": lambda: nn.Embedding(10, 4, padding_idx=2),
    "EmbeddingBag": lambda: nn.EmbeddingBag(10, 4),
    "LSTM": lambda: nn.LSTM(3, 4, 2),
    "GRU, bidirectional": lambda: nn.GRU(3, 4, bidirectional=True),
    "MultiheadAttention": lambda: nn.MultiheadAttention(8, 2),
    "MultiheadAttention, kdim": lambda: nn.MultiheadAttention(8, 2, kdim=4, vdim=6, add_bias_kv=True),
    "TransformerEncoder": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2),
    "Transformer": lambda: nn.Transformer(8, 2, 2, 2, 16),
    "BatchNorm2d": lambda: nn.BatchNorm2d(4),
    "GroupNorm": lambda: nn.GroupNorm(2, 4),
    "Bilinear": lambda: nn.Bilinear(3, 4, 5),
    "PReLU": lambda: nn.PReLU(3),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("layer", LAYERS)
def test_layers_from_meta(layer: str, dtype: str) -> None:
    module = on_meta(lambda: LAYERS[layer]().to(getattr(torch, dtype)))
    with generator_left_alone(), nan_in_fresh_memory():
        report = ft.initialize_(module, seed=SEED, prefix="m.")
    check(module, report, "m.")
    assert all(one.dtype == dtype for one in report.tensors.values() if "num_batches" not in one.name)


def test_nan_is_seen() -> None:
    """The negative control of the test above: memory that nobody writes is not a number."""
    with nan_in_fresh_memory():
        module = on_meta(lambda: nn.Linear(2, 2)).to_empty(device="cpu")
    assert torch.isnan(module.weight).all()


def test_distributions_are_those_of_eager_construction() -> None:
    """A parameter's std and largest element, beside those that torch draws itself."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        eager = nn.Transformer(64, 4, 2, 2, 128, batch_first=True)
    ours = on_meta(lambda: nn.Transformer(64, 4, 2, 2, 128))
    ft.initialize_(ours, seed=SEED)
    for (name, a), (_, b) in zip(eager.named_parameters(), ours.named_parameters(), strict=True):
        if a.dim() > 1:
            assert a.std().item() == pytest.approx(b.std().item(), rel=0.05), name
            assert a.abs().max().item() == pytest.approx(b.abs().max().item(), rel=0.02), name
        else:
            assert torch.equal(a == 0, b == 0), name


def test_deep_copies_get_values_of_their_own() -> None:
    layer = nn.Linear(6, 6)
    module = nn.Sequential(layer, copy.deepcopy(layer))
    assert torch.equal(module[0].weight, module[1].weight)
    ft.initialize_(module, seed=SEED)
    assert not (module[0].weight == module[1].weight).any()


@pytest.mark.parametrize("meta", [True, False])
def test_tied_parameters_stay_tied(meta: bool) -> None:
    def make() -> Any:
        model = nn.Sequential()
        model.add_module("embed", nn.Embedding(10, 4, padding_idx=0))
        model.add_module("head", nn.Linear(4, 10))
        model.head.weight = model.embed.weight
        return model

    with torch.random.fork_rng():
        model = on_meta(make) if meta else make()
    report = ft.initialize_(model, seed=SEED)
    assert model.head.weight is model.embed.weight
    assert report.tensors["embed.weight"].aliases == ("head.weight",)
    assert not model.embed.weight[0].any()  # the head's own code would have written the padding row, too
    assert model.embed.weight[1:].all()
    check(model, report)


def test_what_nothing_writes_is_named() -> None:
    class Forgetful(nn.Linear):
        def __init__(self) -> None:
            super().__init__(2, 3)
            self.scale = nn.Parameter(torch.ones(3))
            self.register_buffer("table", torch.arange(3.0))

    module = on_meta(Forgetful)
    with pytest.raises(RuntimeError, match=r"scale \(nothing wrote it\), table \(nothing wrote it\); give rules"):
        ft.initialize_(module, seed=SEED)
    report = ft.initialize_(on_meta(Forgetful), seed=SEED, strict=False)
    assert set(report.problems) == {"scale", "table"}
    module = on_meta(Forgetful)
    check(module, ft.initialize_(module, seed=SEED, rules={"scale": fi.ones(), "tab*": fi.zeros()}))
    built = Forgetful()
    with pytest.raises(RuntimeError, match="scale"):  # its buffer has its values already
        ft.initialize_(built, seed=SEED)


def test_a_part_that_nothing_writes_is_named() -> None:
    class Half(nn.Linear):
        def reset_parameters(self) -> None:
            init.normal_(self.weight[:2])

    with torch.random.fork_rng(), pytest.raises(RuntimeError, match=r"weight \(only a part was written\)"):
        ft.initialize_(Half(2, 3, bias=False), seed=SEED)


def test_computed_values_are_kept_and_listed() -> None:
    class Positions(nn.Embedding):
        def reset_parameters(self) -> None:
            with torch.no_grad():
                self.weight.copy_(torch.arange(12.0).reshape(4, 3))
                self.weight[:, ::2] = 7.0

    module = on_meta(lambda: Positions(4, 3))
    report = ft.initialize_(module, seed=SEED)
    assert report.computed == ("weight",)
    assert module.weight.tolist() == [[7, 1, 7], [7, 4, 7], [7, 7, 7], [7, 10, 7]]


def test_memory_that_a_tensor_is_given_is_followed() -> None:
    class Replaced(nn.Linear):
        def reset_parameters(self) -> None:
            init.normal_(self.weight)
            self.weight.data = self.weight.data.clone()  # the same values, as transformers gives to biases
            init.zeros_(self.bias)
            self.bias.data = torch.ones(3)
            self.bias.data[1] = 0.5

    module = on_meta(lambda: Replaced(2, 3))
    report = ft.initialize_(module, seed=SEED)
    assert report.computed == ("bias",)
    assert module.bias.tolist() == [1.0, 0.5, 1.0]
    assert np.array_equal(module.weight.detach().numpy(), fi.array((3, 2), fi.normal(), seed=SEED, name="weight"))
    with pytest.raises(ValueError, match="must be on the meta device, but 'weight' is on cpu"):
        ft.record(module)


def test_a_changed_copy_is_no_copy() -> None:
    class Changed(nn.Linear):
        def reset_parameters(self) -> None:
            init.normal_(self.weight)
            other = self.weight.data.clone()
            other[0] = 0
            self.weight.data = other

    report = ft.initialize_(on_meta(lambda: Changed(2, 3, bias=False)), seed=SEED)
    assert report.tensors["weight"].computed == ("data",)


def test_a_changed_temporary_is_computed() -> None:
    module = nn.Linear(2, 3, bias=False)
    with ft.drawing(module, seed=SEED) as drawn, torch.no_grad():
        other = torch.empty(3, 2).normal_()
        other.mul_(0.0)
        module.weight.copy_(other)
    assert drawn.report().computed == ("weight",)
    assert not module.weight.any()


def test_what_a_model_leaves_is_its_layers_own() -> None:
    """A model's init of weights alone: biases are the layers' own, which do not write the weights again."""

    class Model(nn.Sequential):
        def init_weights(self) -> None:
            for layer in self:
                init.normal_(layer.weight)

    model = on_meta(lambda: Model(nn.Linear(4, 3), nn.Linear(3, 2)))
    report = ft.initialize_(model, seed=SEED)
    check(model, report)
    factories = [one.init.factory if one.init else "" for one in report.tensors.values()]
    assert factories == ["normal", "uniform", "normal", "uniform"]


def test_the_owner_of_tied_parameters_may_be_named() -> None:
    """As transformers names it; else it is the first."""
    model = on_meta(lambda: nn.ModuleDict({"head": nn.Linear(4, 10, bias=False), "embed": nn.Embedding(10, 4)}))
    model["head"].weight = model["embed"].weight
    (found,) = ft.record(model).tensors.values()
    assert (found.name, found.init and found.init.factory) == ("head.weight", "uniform")
    model.all_tied_weights_keys = {"head.weight": "embed.weight"}
    (found,) = ft.record(model).tensors.values()
    assert (found.name, found.init) == ("embed.weight", fi.normal())
    assert found.aliases == ("head.weight",)


def test_arithmetic_upon_draws_is_listed() -> None:
    class Scaled(nn.Linear):
        def reset_parameters(self) -> None:
            with torch.no_grad():
                self.weight.normal_().mul_(0.5)

    module = on_meta(lambda: Scaled(2, 3, bias=False))
    report = ft.initialize_(module, seed=SEED)
    assert report.tensors["weight"].computed == ("mul_",)
    assert np.array_equal(module.weight.detach().numpy(), fi.array((3, 2), fi.normal(), seed=SEED, name="weight") / 2)


def test_generators_are_honoured_and_named() -> None:
    def reset(module: Any) -> None:
        init.normal_(module.weight, generator=torch.Generator().manual_seed(0))
        init.trunc_normal_(module.bias, generator=torch.Generator().manual_seed(0))

    with torch.random.fork_rng():
        module = nn.Linear(2, 3)
    with pytest.raises(RuntimeError, match=r"weight \(torch drew it: normal_\), bias \(torch drew it"):
        ft.initialize_(module, seed=SEED, reset=reset)
    assert torch.equal(module.weight, torch.empty(3, 2).normal_(generator=torch.Generator().manual_seed(0)))


def test_draws_that_only_torch_has_depend_on_the_seed_alone() -> None:
    module, found = nn.Linear(3, 2, bias=False), []
    for seed in (0, 0, 1):
        with generator_left_alone(), ft.drawing(module, seed=seed) as drawn:
            module.weight.data.exponential_()
            torch.randperm(5)
        found.append(module.weight.tolist())
        assert drawn.report().problems == {"weight": "torch drew it: exponential_"}
    assert found[0] == found[1] != found[2]


def test_leaves_are_protected_as_ever() -> None:
    module = nn.Linear(2, 3)
    before = module.weight.tolist()
    with ft.drawing(module, seed=SEED), pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        module.weight.normal_()
    assert module.weight.tolist() == before


def test_errors_of_draws_are_torchs() -> None:
    module = nn.Linear(2, 3)
    with ft.drawing(module, seed=SEED):
        with pytest.raises(RuntimeError, match=r"normal expects std >= 0.0, but found std -1"):
            init.normal_(module.weight, std=-1)
        with pytest.raises(RuntimeError, match="uniform_ expects to return"):
            init.uniform_(module.weight, 1, 0)
        with pytest.raises(ValueError, match="Only tensors with 2 dimensions are supported"):
            init.sparse_(module.bias, 0.1)


@pytest.mark.parametrize("options", [{"a": 40.0, "b": 41.0}, {"std": -1.0}, {"a": 1.0, "b": -1.0}])
def test_what_cannot_be_drawn_is_refused(options: dict[str, float]) -> None:
    """Torch's own loop would look for ever for an element of one stream that is within such bounds."""
    with pytest.raises(ValueError, match=r"probability|std must be|lower must be"):
        ft.nn_init.trunc_normal_(torch.empty(100), **options, seed=0, name="w")
    module = nn.Linear(4, 3)
    with ft.drawing(module, seed=SEED), pytest.raises(ValueError, match=r"probability|std must be|lower must be"):
        init.trunc_normal_(module.weight, **options)


def test_odd_arguments_that_torch_takes() -> None:
    with pytest.raises(ZeroDivisionError):
        ft.nn_init.trunc_normal_(torch.empty(3), std=0.0, seed=0, name="w")
    made = ft.nn_init.orthogonal_(torch.empty(3, 3), gain=-2.0, seed=0, name="w")
    assert torch.allclose(made @ made.T, 4 * torch.eye(3), atol=1e-5)
    module = nn.Module()
    module.w = nn.Parameter(torch.empty(3, 3, dtype=torch.complex64))
    with ft.drawing(module, seed=SEED) as drawn:
        init.normal_(module.w)
        init.eye_(module.w)
    assert torch.equal(module.w, torch.eye(3, dtype=torch.complex64))
    assert drawn.report().tensors["w"].init is None


def test_contexts_nest_and_are_undone_by_errors() -> None:
    codes = {name: PRIMITIVE[name].__code__ for name in CALLS}
    a, b = nn.Linear(2, 3), nn.Linear(2, 3)
    outer, inner = ft.drawing(a, seed=1), ft.drawing(b, seed=2)

    def fail() -> None:
        with outer:
            with inner:
                for module in (a, b):
                    init.trunc_normal_(module.weight)
                    init.normal_(module.bias)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail()
    check(a, outer.report())
    check(b, inner.report())
    assert {name: PRIMITIVE[name].__code__ for name in CALLS} == codes
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = init.trunc_normal_(torch.empty(4))
        torch.manual_seed(0)
        assert torch.equal(init.trunc_normal_(torch.empty(4)), drawn)


def test_other_threads_draw_as_before() -> None:
    module, seen = nn.Linear(2, 3), []

    def work() -> None:
        seen.append(init.normal_(torch.empty(4), generator=torch.Generator().manual_seed(5)).tolist())
        with torch.random.fork_rng():
            torch.manual_seed(5)
            seen.append(init.orthogonal_(torch.empty(3, 3)).tolist())

    with ft.drawing(module, seed=SEED) as drawn:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert all(one.init is None for one in drawn.report().tensors.values())
    work()
    assert seen[:2] == seen[2:]


def test_accelerated_is_reproducible_and_follows_torchs_seed() -> None:
    found = []
    with torch.random.fork_rng():
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            with ft.accelerated():
                found.append(nn.Linear(40, 30).weight.detach())
        with ft.accelerated(7):
            numbered = nn.Linear(40, 30)
    assert torch.equal(found[0], found[1])
    assert not (found[0] == found[2]).any()
    bound = torch.tensor(1 / 40).sqrt().item()
    init_ = fi.uniform(-bound, bound)
    assert fi.verify(numbered.weight, init_).passed
    assert np.allclose(numbered.weight.detach().numpy(), fi.array((30, 40), init_, seed=7, name=0), rtol=1e-6)
    assert np.allclose(numbered.bias.detach().numpy(), fi.array(30, init_, seed=7, name=1), rtol=1e-6)


def test_progress_and_the_report_in_words() -> None:
    told: list[tuple[int, int]] = []
    module = on_meta(lambda: nn.Linear(64, 32))
    report = ft.initialize_(module, seed=SEED, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (4 * (64 * 32 + 32),) * 2
    head, weight, bias = str(report).split("\n")
    assert head == "2 tensors, 8.32 kB, seed 3; 0 problems"
    assert weight.startswith("weight  float32[32, 64]  uniform(low=-0.12")
    assert bias == "bias  float32[32]  uniform(low=-0.125, high=0.125)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reset": "no_such"}, "reset must be a function or the name of a method"),
        ({"rules": {"wieght": fi.zeros()}}, "rules: did you mean 'weight'"),
        ({"rules": {"bias": fi.he_normal()}}, "fan"),
        ({"seed": -1}, "seed must be in"),
        ({"progress": 3}, "progress must be"),
    ],
)
def test_bad_arguments_write_nothing(options: dict[str, Any], message: str) -> None:
    module = nn.Linear(2, 3)
    before = module.weight.tolist()
    with pytest.raises((TypeError, ValueError), match=message):
        ft.initialize_(module, **{"seed": SEED, **options})
    assert module.weight.tolist() == before


def test_lazy_and_half_meta_modules_are_refused() -> None:
    with pytest.raises(ValueError, match="lazy"):
        ft.initialize_(nn.LazyLinear(3), seed=SEED)
    module = nn.Linear(2, 3)
    module.weight = nn.Parameter(torch.empty(3, 2, device="meta"))
    with pytest.raises(ValueError, match="on the meta device wholly or not at all"):
        ft.initialize_(module, seed=SEED)


def test_nn_init_has_torchs_functions_and_numbers() -> None:
    for name, (call, shape, wanted) in CALLS.items():
        function = getattr(ft.nn_init, name)
        if function is getattr(init, name):
            continue  # those that draw nothing
        made = call(lambda *args, f=function, **kw: f(*args, seed=SEED, name="w", **kw), torch.full(shape, torch.nan))
        expected = fi.array(shape, wanted, seed=SEED, name="w")
        assert np.allclose(made.numpy(), expected, rtol=1e-6, atol=1e-7), name
        with pytest.raises(TypeError, match="seed"):
            call(function, torch.empty(shape))
        with pytest.raises(ValueError, match="generator must be None"):
            call(
                lambda *args, f=function, **kw: f(*args, seed=0, name=0, generator=torch.Generator(), **kw),
                torch.empty(shape),
            )
    bound = 1.2247448713915892  # torch's arithmetic: sqrt(3) * sqrt(2 / 4)
    made = ft.nn_init.xavier_uniform_(torch.empty(2, 2), seed=0, name=0)
    assert np.array_equal(made.numpy(), fi.array((2, 2), fi.uniform(-bound, bound), seed=0, name=0))
