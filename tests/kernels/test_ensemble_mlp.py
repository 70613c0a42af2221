import itertools

import pytest
import torch

from rmbpo_fast.kernels import ensemble_mlp


def _network(members, sizes, dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed)
    weights = [
        torch.randn(members, a, b, dtype=dtype, generator=g) / a**0.5
        for a, b in itertools.pairwise(sizes)
    ]
    biases = [torch.randn(members, 1, b, dtype=dtype, generator=g) for b in sizes[1:]]
    return weights, biases


def test_hand_worked_case():
    """relu(1 * 2 - 3, 1 * 2 + 1) = (0, 3); 0 * 5 + 3 * 7 + 11 = 32."""
    weights = [torch.tensor([[[2.0, 2.0]]]), torch.tensor([[[5.0], [7.0]]])]
    biases = [torch.tensor([[[-3.0, 1.0]]]), torch.tensor([[[11.0]]])]
    out = ensemble_mlp(torch.ones(1, 1, 1), weights, biases, "relu")
    assert out.item() == 32.0


@pytest.mark.parametrize("activation", ["swish", "relu"])
@pytest.mark.parametrize("batch", [1, 63, 500])
def test_each_member_is_its_own_network(activation, batch):
    weights, biases = _network(3, (5, 17, 11, 4))
    x = torch.randn(3, batch, 5, generator=torch.Generator().manual_seed(1))
    out = ensemble_mlp(x, weights, biases, activation)
    act = torch.nn.SiLU() if activation == "swish" else torch.nn.ReLU()
    for e in range(3):
        y = x[e]
        for layer in range(3):
            y = y @ weights[layer][e] + biases[layer][e]
            y = act(y) if layer < 2 else y
        torch.testing.assert_close(out[e], y)


def test_batch_split_and_member_order_do_not_matter():
    weights, biases = _network(4, (6, 8, 3))
    x = torch.randn(4, 10, 6, generator=torch.Generator().manual_seed(1))
    whole = ensemble_mlp(x, weights, biases, "swish")
    parts = [ensemble_mlp(half, weights, biases, "swish") for half in x.split(5, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)
    order = torch.tensor([2, 0, 3, 1])
    shuffled = ensemble_mlp(
        x[order], [w[order] for w in weights], [b[order] for b in biases], "swish"
    )
    torch.testing.assert_close(shuffled, whole[order])


@pytest.mark.parametrize("activation", ["swish", "relu"])
def test_gradients(activation):
    weights, biases = _network(2, (3, 4, 2), torch.float64)
    x = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    inputs = [t.requires_grad_() for t in (x, *weights, *biases)]
    assert torch.autograd.gradcheck(
        lambda x, *wb: ensemble_mlp(x, wb[:2], wb[2:], activation), inputs
    )


def test_non_contiguous_input():
    weights, biases = _network(2, (3, 4, 2))
    x = torch.randn(2, 3, 5).transpose(1, 2)
    torch.testing.assert_close(
        ensemble_mlp(x, weights, biases, "relu"),
        ensemble_mlp(x.contiguous(), weights, biases, "relu"),
    )


def test_full_graph_compile():
    weights, biases = _network(2, (3, 4, 2))
    x = torch.randn(2, 5, 3)
    compiled = torch.compile(ensemble_mlp, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(
        compiled(x, weights, biases, "swish"), ensemble_mlp(x, weights, biases, "swish")
    )


def test_bad_arguments_name_expected_and_found():
    weights, biases = _network(2, (3, 4, 2))
    x = torch.randn(2, 5, 3)
    with pytest.raises(ValueError, match=r"expected one of .*swish.*found 'tanh'"):
        ensemble_mlp(x, weights, biases, "tanh")
    with pytest.raises(
        ValueError, match=r"weights\[0\]: expected shape \(2, 7, 4\), found \(2, 3, 4\)"
    ):
        ensemble_mlp(torch.randn(2, 5, 7), weights, biases, "relu")
    with pytest.raises(ValueError, match=r"expected shape \[E, B, I\], found \(5, 3\)"):
        ensemble_mlp(x[0], weights, biases, "relu")
    with pytest.raises(
        ValueError, match=r"weights\[0\]: expected torch.float64 .* found torch.float32"
    ):
        ensemble_mlp(x.double(), weights, biases, "relu")
    with pytest.raises(ValueError, match="as many biases as weights"):
        ensemble_mlp(x, weights, biases[:1], "relu")
