"""Chapter 3: the optimizers equal torch.optim's, or the papers' equations; their states survive saving.
第 3 章：优化器与 torch.optim 或论文公式一致，状态可保存并恢复。
"""

import inspect
import math

import pytest
import torch

from chapter_03_optimization_regularization import optimizers as ours
from chapter_03_optimization_regularization.optimizers import OPTIMIZERS, SAM, SGD, Adam, AdamW, Lion, Muon, adamw_step
from utils.checkpoint import load_state, save_state

CASES = [
    ("SGD", {"lr": 0.02}),
    ("SGD", {"lr": 0.02, "momentum": 0.9}),
    ("SGD", {"lr": 0.02, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.05}),
    ("SGD", {"lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05}),
    ("Adagrad", {"lr": 0.1}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.02, "weight_decay": 0.05, "eps": 1e-3}),
    ("Adadelta", {"lr": 1.0}),
    ("Adadelta", {"lr": 0.5, "rho": 0.8, "eps": 1e-3, "weight_decay": 0.05}),
    ("RMSprop", {"lr": 0.01}),
    ("RMSprop", {"lr": 0.01, "alpha": 0.9, "centered": True, "eps": 1e-3}),
    ("RMSprop", {"lr": 0.01, "momentum": 0.8, "weight_decay": 0.05}),
    ("RMSprop", {"lr": 0.01, "momentum": 0.8, "centered": True, "weight_decay": 0.05}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.05}),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.9), "amsgrad": True, "weight_decay": 0.05}),
    ("AdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.3}),
    ("AdamW", {"lr": 0.01, "betas": (0.8, 0.9), "amsgrad": True, "weight_decay": 0.3}),
    ("Adamax", {"lr": 0.01}),
    ("Adamax", {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.05}),
    ("NAdam", {"lr": 0.01}),
    ("NAdam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.05, "momentum_decay": 0.02}),
    ("RAdam", {"lr": 0.01}),
    ("RAdam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.05}),
]
IDS = [f"{name} {' '.join(f'{k}={v}' for k, v in settings.items() if k != 'lr')}".strip() for name, settings in CASES]
TORCH_HAS_MUON = hasattr(torch.optim, "Muon")
NO_MUON = "this PyTorch has no torch.optim.Muon"


@pytest.fixture(autouse=True)
def _default_dtype():
    """torch.optim keeps NAdam's product of momenta in the default type: in float32 it would be off by 1e-8."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def parameters(dtype=torch.float64, shapes=((5, 4), (4,), (), (3, 2, 2, 2))):
    generator = torch.Generator().manual_seed(0)
    found = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]
    return [(p.to(memory_format=torch.channels_last) if p.ndim == 4 else p).requires_grad_() for p in found]


def train(optimizer, params, steps=200, first=0, scheduled=True):
    """Follow noisy gradients of a bumpy function. Every third step one parameter has none; lr changes with each."""
    base = [group["lr"] for group in optimizer.param_groups]
    for t in range(first, first + steps):
        generator = torch.Generator().manual_seed(t)
        for i, p in enumerate(params):
            noise = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)
            g = p.detach() - 1 + (3 * p.detach()).sin() + noise
            p.grad = None if i == 1 and t % 3 == 0 else g.contiguous()  # other strides than channels_last
        for group, lr in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = lr * (1 + math.cos(math.pi * t / 200)) / 2 if scheduled else lr
        optimizer.step()
    for group, lr in zip(optimizer.param_groups, base, strict=True):
        group["lr"] = lr


def groups(params, settings):
    """Two groups; the second has its own learning rate and weight decay."""
    return [{"params": params[:2]}, {"params": iter(params[2:]), "lr": settings["lr"] / 2, "weight_decay": 0.1}]


def largest_difference(some, others):
    return max(
        (a.detach().double() - b.detach().double()).abs().max().item() for a, b in zip(some, others, strict=True)
    )


# --- parity with torch.optim ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, settings", CASES, ids=IDS)
def test_two_hundred_steps_equal_pytorchs(name, settings):
    start, mine, theirs = parameters(), parameters(), parameters()
    train(getattr(ours, name)(groups(mine, settings), **settings), mine)
    train(getattr(torch.optim, name)(groups(theirs, settings), **settings), theirs)
    assert largest_difference(mine, start) > 0.1
    assert largest_difference(mine, theirs) < 1e-12
    assert all(a.stride() == b.stride() for a, b in zip(mine, start, strict=True))


def test_adamw_is_its_definition():
    settings = {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.3}
    (p,) = params = parameters(shapes=((5, 4),))
    optimizer, generator = AdamW(params, **settings), torch.Generator().manual_seed(1)
    q, m, v = p.detach().clone(), torch.zeros(5, 4), torch.zeros(5, 4)
    for t in range(1, 101):
        p.grad = torch.randn(5, 4, generator=generator)
        optimizer.step()
        q, m, v = adamw_step(q, p.grad, m, v, t, **settings)
    torch.testing.assert_close(p.detach(), q, rtol=0, atol=1e-14)
    torch.testing.assert_close(optimizer.state[p]["v"], v, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name, settings", CASES[::3], ids=IDS[::3])
def test_climbing_equals_pytorchs(name, settings):
    mine, theirs = parameters(), parameters()
    train(getattr(ours, name)(groups(mine, settings), **settings, maximize=True), mine, steps=20)
    train(getattr(torch.optim, name)(groups(theirs, settings), **settings, maximize=True), theirs, steps=20)
    assert largest_difference(mine, theirs) < 1e-10  # both run away: the numbers are large


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_climbing_is_going_down_the_opposite_gradient(name):
    up, down = parameters(shapes=shapes_for(name)), parameters(shapes=shapes_for(name))
    for params, sign in ((up, 1), (down, -1)):
        optimizer = OPTIMIZERS[name](params, lr=0.01, maximize=sign == 1)
        for t in range(5):
            generator = torch.Generator().manual_seed(t)
            for p in params:
                p.grad = sign * torch.randn(p.shape, generator=generator)
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(up, down, strict=True))


@pytest.mark.parametrize("settings", [{}, {"nesterov": True}, {"dampening": 0.3}], ids=["plain", "nesterov", "damped"])
def test_momentum_in_bfloat16_is_pytorchs_to_the_bit(settings):
    """As the factor of an addition, 0.9 would be rounded to 0.8984; a multiplication takes it as it is."""
    mine, theirs = (parameters(torch.bfloat16, ((500,),)) for _ in range(2))
    for module, params in ((ours, mine), (torch.optim, theirs)):
        train(module.SGD(params, lr=0.01, momentum=0.9, **settings), params, steps=10)
    assert torch.equal(mine[0], theirs[0])


@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float32, 1e-6), (torch.bfloat16, 0.02)], ids=["float32", "bfloat16"]
)
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RAdam"])
def test_lower_precision_stays_near_pytorchs(name, dtype, tolerance):
    """For a few steps: on a bumpy function a difference in the last bit, 0.008 in bfloat16, soon grows."""
    settings = {"lr": 0.01, "weight_decay": 0.05} | ({"momentum": 0.9} if name == "SGD" else {})
    mine, theirs = parameters(dtype), parameters(dtype)
    train(getattr(ours, name)(groups(mine, settings), **settings), mine, steps=10)
    train(getattr(torch.optim, name)(groups(theirs, settings), **settings), theirs, steps=10)
    assert largest_difference(mine, theirs) < tolerance
    assert all(p.dtype == dtype for p in mine)


@pytest.mark.parametrize("name, settings", [case for case in CASES if len(case[1]) > 1][::2])
def test_parameters_that_join_later_start_their_own_count(name, settings):
    outcomes = []
    for module in (ours, torch.optim):
        params = parameters()
        optimizer = getattr(module, name)(params[:2], **settings)
        train(optimizer, params[:2], 20)
        optimizer.add_param_group({"params": params[2:], "lr": 0.005})
        train(optimizer, params, 20, first=20)
        outcomes.append(params)
    assert largest_difference(*outcomes) < 1e-12


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_defaults_are_pytorchs(name):
    theirs = getattr(torch.optim, name)(parameters()).param_groups[0]
    mine = getattr(ours, name)(parameters(), **({"lr": 1e-3} if name == "SGD" else {})).param_groups[0]
    assert {k: v for k, v in mine.items() if k != "params"} == {k: theirs[k] for k in mine if k != "params"}


@pytest.mark.skipif(not TORCH_HAS_MUON, reason=NO_MUON)
@pytest.mark.parametrize("nesterov", [True, False], ids=["nesterov", "plain"])
@pytest.mark.parametrize("match_rms", [True, False], ids=["match_rms", "original"])
def test_muon_equals_pytorchs(match_rms, nesterov):
    shapes, settings = ((12, 8), (8, 12), (6, 6), (1, 5)), {"lr": 0.02, "momentum": 0.9, "nesterov": nesterov}
    start, mine, theirs = (parameters(shapes=shapes) for _ in range(3))
    train(Muon(groups(mine, settings), **settings, match_rms=match_rms), mine)
    rule = "match_rms_adamw" if match_rms else "original"
    train(torch.optim.Muon(groups(theirs, settings), **settings, adjust_lr_fn=rule), theirs)
    assert largest_difference(mine, start) > 0.1
    assert largest_difference(mine, theirs) < 1e-9  # one bit of bfloat16 would be 1e-5


def test_the_table_holds_what_its_names_say():
    assert {"sgd", "adagrad", "adadelta", "rmsprop", "adam", "adamw", "adamax", "nadam", "radam", "lion", "muon"} == {
        name for name, made in OPTIMIZERS.items() if inspect.isclass(made) and made.__name__.lower() == name
    }
    same = {
        "momentum": {"momentum": 0.9},
        "nesterov": {"momentum": 0.9, "nesterov": True},
        "amsgrad": {"amsgrad": True},
    }
    for name, settings in same.items():
        kind = Adam if name == "amsgrad" else SGD
        assert OPTIMIZERS[name](parameters(), lr=0.1).defaults == kind(parameters(), lr=0.1, **settings).defaults
    assert OPTIMIZERS.keys() == {*same, *(n for n, made in OPTIMIZERS.items() if inspect.isclass(made))}


# --- worked numbers ---------------------------------------------------------------------------------------------------


def scalar(*values):
    return torch.tensor(values, requires_grad=True)


def test_lion_by_hand():
    p = scalar(1.0, 1.0)
    optimizer = Lion([p], lr=0.1, betas=(0.9, 0.5), weight_decay=0.2)
    p.grad = torch.tensor([4.0, -0.001])
    optimizer.step()  # m = 0: the signs of the gradient; 1 - 0.1 (+-1 + 0.2)
    torch.testing.assert_close(p.detach(), torch.tensor([0.88, 1.08]), rtol=0, atol=1e-15)
    p.grad = torch.tensor([-10.0, 0.0])
    optimizer.step()  # m = (2, -0.0005), 0.9 m + 0.1 g = (0.8, -0.00045): the second gradient did not turn the sign
    torch.testing.assert_close(p.detach(), torch.tensor([0.7624, 1.1584]), rtol=0, atol=1e-15)
    torch.testing.assert_close(optimizer.state[p]["m"], torch.tensor([-4.0, -0.00025]), rtol=0, atol=1e-15)


def test_sam_by_hand():
    a, b = scalar(3.0), scalar(2.0, 9.0)  # loss a^2 / 2 + b_0^2: gradient (3, 4, 0), of length 5
    sam = SAM(SGD([{"params": [a]}, {"params": [b], "lr": 0.2}], lr=0.1), rho=0.5)

    def loss_and_backward():
        sam.zero_grad()
        loss = (a**2).sum() / 2 + b[0] ** 2
        loss.backward()
        return loss

    loss_and_backward()
    loss = sam.step(loss_and_backward)  # climbs to a = 3.3, b_0 = 2.4, where the gradient is (3.3, 4.8, 0)
    torch.testing.assert_close(loss.item(), 3.3**2 / 2 + 2.4**2, rtol=1e-12, atol=0)
    torch.testing.assert_close(a.detach(), torch.tensor([3 - 0.33]), rtol=0, atol=1e-12)
    torch.testing.assert_close(b.detach(), torch.tensor([2 - 0.96, 9.0]), rtol=0, atol=1e-12)


def test_sam_comes_back_to_the_very_bits_it_started_from():
    params = parameters(torch.float32)
    start = [p.detach().clone() for p in params]
    sam, seen = SAM(SGD(params, lr=0.0), rho=0.1), []

    def loss_and_backward():
        sam.zero_grad()
        seen.append([p.detach().clone() for p in params])
        loss = sum((p**3).sum() for p in params[1:])
        loss.backward()
        return loss

    loss_and_backward()
    sam.step(loss_and_backward)
    assert all(torch.equal(p, s) for p, s in zip(params, start, strict=True))
    distance = torch.cat([(a - b).flatten() for a, b in zip(*seen, strict=True)]).double().norm()
    assert distance.item() == pytest.approx(0.1, rel=1e-5)
    assert torch.equal(seen[1][0], start[0]), "without a gradient it stays"


def test_muon_by_hand():
    """Equal singular values all become the same polynomial of a polynomial ...: each a few bits from 1."""
    p = torch.zeros(4, 2).requires_grad_()
    turned = torch.tensor([[0.0, 3.0], [-3.0, 0.0], [0.0, 0.0], [0.0, 0.0]])  # 3 U V^T
    s = 1 / math.sqrt(2)  # 3 of a norm of 3 sqrt(2)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    p.grad = turned.clone()
    Muon([p], lr=0.1, weight_decay=0.0).step()
    torch.testing.assert_close(p.detach(), -0.1 * math.sqrt(4 / 2) * s * turned / 3, rtol=0.02, atol=0)
    p.grad = turned.clone()
    before = p.detach().clone()
    Muon([p], lr=0.1, weight_decay=0.5, match_rms=True).step()
    step = 0.1 * 0.2 * math.sqrt(4) * s * turned / 3
    torch.testing.assert_close(p.detach(), 0.95 * before - step, rtol=0.02, atol=0)


def test_muons_momentum_by_hand():
    """Without Nesterov the step's direction is the mean gradient's, with it a look further ahead."""
    first, second = torch.diag(torch.tensor([1.0, 0.0])), torch.diag(torch.tensor([0.0, 1.0]))
    for nesterov, expected in ((False, first / 4 + second / 2), (True, first / 8 + 3 * second / 4)):
        p = torch.zeros(2, 2).requires_grad_()
        optimizer = Muon([p], lr=1.0, momentum=0.5, nesterov=nesterov, weight_decay=0.0)
        p.grad = first
        optimizer.step()
        before, p.grad = p.detach().clone(), second
        optimizer.step()  # v = g_1 / 4 + g_2 / 2; nesterov: (v + g_2) / 2
        assert torch.equal(before - p.detach(), ours.orthogonalize(expected).double())


@pytest.mark.parametrize("shape", [(30, 50), (50, 30), (40, 40), (1, 7)])
def test_orthogonalize_keeps_the_singular_vectors(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    s = 100 * torch.linspace(0.1, 1, len(s))  # no matter how long the matrix is
    turned = u.T @ ours.orthogonalize(u @ torch.diag(s) @ vt).double() @ vt.T  # a diagonal of new singular values
    expected = s / s.norm()
    for _ in range(5):
        expected = 3.4445 * expected - 4.7750 * expected**3 + 2.0315 * expected**5
    assert 0.68 < expected.min() and expected.max() < 1.21
    torch.testing.assert_close(turned, torch.diag(expected), rtol=0, atol=0.03)  # bfloat16 has 8 bits


def test_muon_takes_a_convolution_as_a_matrix():
    conv = parameters(shapes=((6, 2, 3, 3),))
    flat = [conv[0].detach().flatten(1).clone().requires_grad_()]
    for params in (conv, flat):
        optimizer = Muon(params, lr=0.02)
        for t in range(10):
            g = torch.randn(6, 18, generator=torch.Generator().manual_seed(t))
            params[0].grad = g.view(params[0].shape)
            optimizer.step()
    assert torch.equal(conv[0].flatten(1), flat[0])


# --- what holds for all -----------------------------------------------------------------------------------------------


def make(name, params, settings=None):
    """Any optimizer of the table, with weight decay and whatever else leaves a state behind."""
    more = {"rmsprop": {"momentum": 0.8, "centered": True}, "adagrad": {"lr_decay": 0.1}}.get(name, {})
    return OPTIMIZERS[name](params, **{"lr": 0.01, "weight_decay": 0.05} | more)


def shapes_for(name):
    return ((5, 4), (4, 6), (3, 2, 2, 2)) if name == "muon" else ((5, 4), (4,), (), (3, 2, 2, 2))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_saved_state_goes_on_to_the_same_bits(name, dtype, tmp_path):
    params = parameters(dtype, shapes_for(name))
    whole = make(name, params)
    train(whole, params, 7, scheduled=False)
    whole.param_groups[0]["lr"] = 0.02
    save_state(tmp_path / "state.pt", {}, 7, [], {"optimizer": whole})
    again = [p.detach().clone().requires_grad_() for p in params]
    resumed = make(name, again)
    load_state(tmp_path / "state.pt", {}, {"optimizer": resumed})
    assert resumed.param_groups[0]["lr"] == 0.02 and resumed.param_groups[0]["params"][0] is again[0]

    handed_over = [p.detach().clone().requires_grad_() for p in params]
    twin = make(name, handed_over)
    twin.load_state_dict(whole.state_dict())  # without a file between: the tensors must not be shared
    for optimizer, its_params in ((whole, params), (resumed, again), (twin, handed_over)):
        train(optimizer, its_params, 7, first=7, scheduled=False)
    for others in (again, handed_over):
        assert all(torch.equal(a, b) for a, b in zip(params, others, strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_loaded_state_shares_no_memory_with_its_source(name):
    params, others = parameters(shapes=shapes_for(name)), parameters(shapes=shapes_for(name))
    source, copy = make(name, params), make(name, others)
    train(source, params, 2)
    copy.load_state_dict(source.state_dict())
    tensors = [
        {t.data_ptr() for state in optimizer.state.values() for t in state.values() if isinstance(t, torch.Tensor)}
        for optimizer in (source, copy)
    ]
    assert not tensors[0] & tensors[1] and len(tensors[0]) == len(tensors[1])
    assert not any(a is b for a, b in zip(source.param_groups, copy.param_groups, strict=True))


def test_sams_state_is_its_optimizers():
    params = parameters()
    inner = make("momentum", params)
    train(inner, params, 3)
    sam = SAM(make("momentum", parameters()), rho=0.2)
    sam.load_state_dict(SAM(inner).state_dict())
    for p, q in zip(inner.state, sam.optimizer.state, strict=True):
        assert torch.equal(inner.state[p]["velocity"], sam.optimizer.state[q]["velocity"])
    sam.param_groups[0]["lr"] = 0.5
    assert sam.optimizer.param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_leaves_the_gradient_and_the_graph_alone(name):
    params = parameters(shapes=shapes_for(name))
    optimizer = make(name, params)
    for _ in range(3):
        optimizer.zero_grad()
        sum((p**2).sum() for p in params).backward()
        kept = [p.grad.clone() for p in params]
        optimizer.step()
        assert all(torch.equal(p.grad, g) for p, g in zip(params, kept, strict=True))
        assert all(p.requires_grad and p.is_leaf for p in params)
    states = [v for state in optimizer.state.values() for v in state.values() if isinstance(v, torch.Tensor)]
    assert not any(v.requires_grad for v in states)
    optimizer.zero_grad()
    assert all(p.grad is None for p in params)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_scratch_memory_fits_every_layout(name):
    """A transposed matrix, and every second row of a larger one, move like their contiguous copies."""
    first, memory = torch.randn(5, 4), torch.randn(6, 7)
    odd = [first.clone().T.requires_grad_(), memory.clone()[::2].requires_grad_()]
    plain = [p.detach().clone(memory_format=torch.contiguous_format).requires_grad_() for p in odd]
    for params in (odd, plain):
        train(make(name, params), params, 10)
    tolerance = 0.02 if name == "muon" else 1e-12  # products in bfloat16 depend on the order
    assert largest_difference(odd, plain) < tolerance


def test_only_the_states_that_are_needed_are_kept():
    def names(name, **settings):
        params = parameters()
        optimizer = OPTIMIZERS[name](params, lr=0.01, **settings)
        train(optimizer, params, 2)
        return {key for key, value in optimizer.state[params[0]].items() if isinstance(value, torch.Tensor)}

    assert names("sgd") == set() and names("momentum") == {"velocity"}
    assert names("rmsprop") == {"square"} and names("rmsprop", centered=True) == {"square", "mean"}
    assert names("adam") == {"m", "v"} and names("amsgrad") == {"m", "v", "largest"}
    assert names("lion") == {"m"}


# --- errors -----------------------------------------------------------------------------------------------------------


def test_adamw_may_keep_nothing_of_a_weight():
    ours, torchs = (torch.tensor([3.0, -2.0], dtype=torch.float64, requires_grad=True) for _ in range(2))
    for p, make in ((ours, AdamW), (torchs, torch.optim.AdamW)):
        p.grad = torch.tensor([0.5, 1.0], dtype=torch.float64)
        make([p], lr=0.5, weight_decay=2.0).step()
    torch.testing.assert_close(ours, torchs)


def test_mistakes_are_refused():
    p, q = parameters()[:2]
    for params, settings, message in (
        ([], {}, "no parameters"),
        ([p, p], {}, "twice"),
        ([{"params": [p]}, {"params": [q, p]}], {}, "two groups"),
        ([{"params": [p], "weight_deacy": 0.1}], {}, "no setting weight_deacy"),
        ([2 * p], {}, "leaves"),
        ([p], {"betas": (0.9, 1.0)}, "betas"),
    ):
        with pytest.raises(ValueError, match=message):
            AdamW(params, **settings)
    for settings in ({}, {"momentum": 0.9, "dampening": 0.1}):
        with pytest.raises(ValueError, match="nesterov"):
            SGD([p], lr=0.1, nesterov=True, **settings)
    with pytest.raises(ValueError, match="matrices"):
        Muon([p, q])
    with pytest.raises(ValueError, match="call backward"):
        SAM(SGD([p], lr=0.1)).step(lambda: None)


BAD = {
    **dict.fromkeys(["lr", "weight_decay", "eps", "lr_decay", "momentum_decay"], (-0.1, math.inf, math.nan)),
    **dict.fromkeys(["momentum", "dampening", "alpha", "rho"], (-0.1, 1.1, math.nan)),
    "betas": ((-0.1, 0.9), (0.9, 1.0), (0.9, -0.1)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_setting_takes_a_value_without_sense(name):
    params = parameters(shapes=shapes_for(name))
    settings = OPTIMIZERS[name](params, lr=0.1).defaults
    assert {key for key, value in settings.items() if not isinstance(value, bool)} <= BAD.keys(), "an unchecked one"
    for key in settings.keys() & BAD.keys():
        for value in BAD[key]:
            with pytest.raises(ValueError, match=key):
                OPTIMIZERS[name](params, **{"lr": 0.1} | {key: value})
            with pytest.raises(ValueError, match=key):
                OPTIMIZERS[name]([{"params": params, key: value}], lr=0.1)


def test_sam_takes_no_distance_below_0():
    for rho in (-0.05, math.nan, math.inf):
        with pytest.raises(ValueError, match="rho"):
            SAM(SGD(parameters(), lr=0.1), rho)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_empty_parameters_and_those_without_gradients_are_left_alone(name):
    idle, moving, empty = parameters(shapes=((3, 2), (3, 2), (0, 2)))
    optimizer, before = OPTIMIZERS[name]([idle, moving, empty], lr=0.1), idle.detach().clone()
    if name == "muon":  # a matrix of no rows has no directions
        optimizer = Muon([idle, moving], lr=0.1)
    for p in (moving, empty):
        p.grad = torch.ones_like(p)
    start = moving.detach().clone()
    optimizer.step()
    assert torch.equal(idle, before) and not optimizer.state[idle] and not torch.equal(moving, start)


def test_a_foreign_state_is_refused_and_changes_nothing():
    params = parameters()
    adam = Adam(params)
    train(adam, params, 2)
    before = adam.state_dict()
    for other, message in (
        (SGD(parameters(), lr=0.1), "another optimizer"),
        (Adam(parameters()[:3]), "other parameter groups"),
        (Adam([{"params": parameters()[:1]}, {"params": parameters()[1:]}]), "other parameter groups"),
        (Adam(parameters(shapes=((4, 5), (4,), (), (3, 2, 2, 2)))), "other shapes"),
    ):
        train(other, [p for group in other.param_groups for p in group["params"]], 2)
        with pytest.raises(ValueError, match=message):
            adam.load_state_dict(other.state_dict())
        assert adam.state_dict() == before
