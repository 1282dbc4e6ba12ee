"""Two matrices U V of rank r in the place of one, W: by its singular values, or to match it as a function.

Rows of W write channels, which the next batch norm multiplies by D = diag(gamma / sqrt(var + eps)). So errors
are those of D W. D needs no inverse: with R the leading right singular vectors of D W, as rows, the best W
of rank r is W R^T R (Eckart and Young 1936), also where a gamma is 0.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from .spectra import Spectrum

# At most: on five random matrices of 24 to 64 rows it ended earlier by itself, where 3000 steps of Adam end
STEPS = 200


def by_svd(layer: Spectrum, rank: int) -> tuple[Tensor, Tensor]:
    """U [m, r] and V [r, n] with the smallest ||D (W - U V)||.

    Both carry the same share of the length of each component, as gradients then are of one size
    (Khodak et al. 2021, "Initialization and regularization of factorized neural layers").
    """
    right = layer.right[:rank]
    left = layer.weight @ right.T
    lengths = left.norm(dim=0).clamp(min=torch.finfo(left.dtype).tiny).sqrt()
    return left / lengths, lengths[:, None] * right


def by_function(layer: Spectrum, rank: int) -> tuple[Tensor, Tensor]:
    """U [m, r] and V [r, n] with a small E ||relu(D W x) - relu(D U V x)||^2 over x ~ N(0, 1).

    L-BFGS minimises the exact expectation, from where `by_svd` ends (the criterion is that of Vodrahalli
    et al. 2022, "Nonlinear initialization methods for low-rank neural networks"). The rows of V stay in the
    space of the right singular vectors, in whose coordinates everything is computed.
    """
    left, right = by_svd(layer, rank)
    rows = layer.scale[:, None] * layer.weight @ layer.right.T
    factors = [left.requires_grad_(), (right @ layer.right.T).requires_grad_()]
    size = rows.square().sum().clamp(min=torch.finfo(rows.dtype).tiny)
    optimiser = torch.optim.LBFGS(factors, max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        error = functional_error(rows, layer.scale[:, None] * (factors[0] @ factors[1])) / size
        error.backward()
        return error

    with torch.enable_grad():
        optimiser.step(closure)
    left, right = (factor.detach() for factor in factors)
    return left, right @ layer.right


def functional_error(one: Tensor, other: Tensor) -> Tensor:
    """E ||relu(A x) - relu(B x)||^2 over x ~ N(0, 1), of matrices A and B [m, n]; with gradient.

    For rows a and b at an angle t, E relu(a x)^2 = |a|^2 / 2, and E relu(a x) relu(b x) =
    |a| |b| (sin t + (pi - t) cos t) / (2 pi) (Cho and Saul 2009, "Kernel methods for deep learning").
    """
    cosine = cosine_similarity(one, other).clamp(-1 + 1e-12, 1 - 1e-12)  # its ends have no gradient
    kernel = (1 - cosine.square()).sqrt() + (torch.pi - cosine.acos()) * cosine
    lengths = one.norm(dim=1), other.norm(dim=1)
    squares = (lengths[0].square() + lengths[1].square()) / 2
    return (squares - lengths[0] * lengths[1] * kernel / torch.pi).sum()


INITS: dict[str, Callable[[Spectrum, int], tuple[Tensor, Tensor]]] = {
    "svd": by_svd,
    "function": by_function,
}
