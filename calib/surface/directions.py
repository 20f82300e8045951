"""How a smile moves with what it was fitted from: the derivatives that error bars rest on.

Everything read off the vols of an expiry, σ(k) = √(w(k)/T), has a response to their small changes
that is linear. The changes are those by each parameter of the model, and one by the forward: at a
fixed strike an error of the forward moves k, and with it σ by σ′·σ_F/F. So a quantity with the
response g to them has the standard error √(gᵀCg), where C holds the covariance of the parameters
and (σ_F/F)²: the delta method, with the ingredients of `calib.surface.smiles.Smiles.vol_error`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from calib.conventions import Floats
from calib.states import ModelName
from calib.surface.smiles import Smiles

_STEP = 1e-3
"""Of a parameter's scale. Central differences of fourth order are then wrong by about 1e-12 of a
derivative, and as much again by rounding."""

_STENCIL = ((1.0, 2.0 / 3.0), (-1.0, -2.0 / 3.0), (2.0, -1.0 / 12.0), (-2.0, 1.0 / 12.0))


def variance_directions(smiles: Smiles, index: Any, k: Any) -> Floats:
    """Derivatives of (w, w′, w″) of expiry ``index`` at k: shape (P + 1, 3) and that of k.

    By each parameter, of w as it is published, SABR's continuation included; the last by a shift
    of k.
    """
    by_parameters = _by_parameters(
        smiles, index, lambda moved: np.stack(np.broadcast_arrays(*moved.jet(index, k)))
    )
    width = _STEP * _width(smiles)[index]
    third = sum(weight * smiles.jet(index, k + step * width)[2] for step, weight in _STENCIL)
    _, slope, curvature = smiles.jet(index, k)
    by_shift = np.stack(np.broadcast_arrays(slope, curvature, third / width))
    return np.concatenate([by_parameters, by_shift[None]])


def vol_jet_directions(smiles: Smiles, index: Any, k: Any) -> Floats:
    """The same of (σ, σ′, σ″), σ = √(w/T), stretched like `vol_directions`."""
    w, slope, curvature = smiles.jet(index, k)
    moves = variance_directions(smiles, index, k)
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(w)
        by_k = 0.5 * slope / root
        by_k_twice = 0.5 * curvature / root - by_k * by_k / root
        # 2√w·δ√w = δw, and its derivatives by k.
        first = 0.5 * moves[:, 0] / root
        second = (0.5 * moves[:, 1] - first * by_k) / root
        third = (0.5 * moves[:, 2] - 2.0 * second * by_k - first * by_k_twice) / root
        result: Floats = np.stack([first, second, third], axis=1) / np.sqrt(smiles.years[index])
    return result * _stretch(smiles, index, k, result[:, 0])


def vol_directions(smiles: Smiles, index: Any, k: Any) -> Floats:
    """Derivatives of σ at k alone: shape (P + 1,) and that of k.

    Outside the quoted range they are as long as `Smiles.vol_error` says, which never shrinks there:
    where they are shorter, all of them are stretched alike.
    """
    by_parameters = _by_parameters(smiles, index, lambda moved: moved.total_variance(index, k))
    w, slope, _ = smiles.jet(index, k)
    moves = np.concatenate([by_parameters, slope[None]])
    with np.errstate(divide="ignore", invalid="ignore"):
        result: Floats = 0.5 * moves / np.sqrt(w * smiles.years[index])
    return result * _stretch(smiles, index, k, result)


def standard_error(smiles: Smiles, index: Any, response: Floats) -> Floats:
    """√(gᵀCg) for ``response`` g of shape (P + 1, …); nan where C is not known."""
    by_parameters = np.einsum(
        "i...,...ij,j...->...", response[:-1], smiles.covariance[index], response[:-1]
    )
    by_forward = response[-1] * smiles.forward_error_share[index]
    error: Floats = np.sqrt(np.maximum(by_parameters + by_forward * by_forward, 0.0))
    return error


def _by_parameters(smiles: Smiles, index: Any, read: Callable[[Smiles], Floats]) -> Floats:
    """The derivatives of what is read off the smiles by each parameter, on axis 0."""
    found = []
    for row, scale in enumerate(_scales(smiles)):
        derivative: Any = 0.0
        for step, weight in _STENCIL:
            moved = smiles.parameters.copy()
            moved[row] += step * _STEP * scale
            derivative = derivative + weight * read(replace(smiles, parameters=moved))
        found.append(derivative / (_STEP * scale[index]))
    return np.stack(found)


def _stretch(smiles: Smiles, index: Any, k: Any, by_vol: Floats) -> Floats:
    length = standard_error(smiles, index, by_vol)
    outside = (k < smiles.k_min[index]) | (k > smiles.k_max[index])
    published = smiles.vol_error(index, k)
    with np.errstate(invalid="ignore"):
        short = outside & (published > length) & (length > 0.0) & (published < np.inf)
    return np.where(short, published / np.where(short, length, 1.0), 1.0)


def _scales(smiles: Smiles) -> Floats:
    """What a large change of each parameter is, (P, N): w is smooth on these scales."""
    p = smiles.parameters
    match smiles.model:
        case ModelName.SVI:  # linear in a, b and ρ
            a, b, _, _, sigma = p
            one = np.ones_like(b)
            return np.stack([np.abs(a) + b * sigma, b + one, one, sigma, sigma])
        case ModelName.ESSVI:
            theta, rho, psi = p
            return np.stack([theta, 1.0 - np.abs(rho), psi])
        case ModelName.SABR:
            alpha, _, rho, nu = p
            return np.stack(
                [alpha, np.ones_like(alpha), 1.0 - np.abs(rho), np.maximum(nu, 0.1 * alpha)]
            )


def _width(smiles: Smiles) -> Floats:
    """The scale in k of each smile, (N,): what its curvature changes over."""
    p = smiles.parameters
    match smiles.model:
        case ModelName.SVI:
            return np.asarray(p[4])
        case ModelName.ESSVI:
            theta, rho, psi = p
            return np.asarray(theta * np.sqrt((1.0 - rho) * (1.0 + rho)) / psi)
        case ModelName.SABR:
            alpha, _, rho, nu = p
            reach = alpha * np.sqrt((1.0 - rho) * (1.0 + rho))
            return np.asarray(reach / np.maximum(nu, reach))  # at most 1, and 1 for ν = 0
