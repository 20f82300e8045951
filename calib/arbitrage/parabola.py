"""Enclosures of functions on a cell by the parabola through three values, and an error.

A function f on x in [−1, 1] is held by its values at −1, 0 and 1 and a bound of |f(x) − parabola|.
Sums, products and quotients of functions have the sums, products and quotients of the values, so
only the error takes thought. With pᵢ(x) = aᵢ + bᵢx + cᵢx², a product of two parabolas differs from
the parabola through its values by (b₁c₂ + b₂c₁)(x³ − x) + c₁c₂(x⁴ − x²), and a parabola f from the
product qg of the parabola q through the values of f/g by minus the same of q and g. On the cell
|x³ − x| ≤ 2/(3√3) and |x⁴ − x²| ≤ ¼. The common dependence on x is kept, so that what is enclosed
shrinks with the cube of the cell's width, where plain intervals shrink with the width.

Arrays are of numpy or jax.numpy, whichever the caller computes with.
"""

from __future__ import annotations

from typing import NamedTuple

from calib.models.arrays import Array, namespace

_CUBIC = 0.38490017945975058  # 2/(3√3), rounded up
_QUARTIC = 0.25
_THIRD_DERIVATIVE = 0.0080187537387448041  # 1/(72√3), rounded up


class Parabola(NamedTuple):
    """Enclosures on cells: values at the start, the middle and the end, and the error between."""

    start: Array
    middle: Array
    end: Array
    error: Array

    @classmethod
    def through(
        cls, start: Array, middle: Array, end: Array, third: Array, cubed: Array
    ) -> Parabola:
        """Of a function with these values and |third derivative| ≤ `third`; `cubed` is width³.

        Interpolation leaves |f‴|·width³/(72√3).
        """
        return cls(start, middle, end, third * (cubed * _THIRD_DERIVATIVE))

    @property
    def lowest(self) -> Array:
        """A lower bound on the cell: the least Bernstein coefficient of its halves."""
        xp = namespace(self.middle)
        tip = 2.0 * self.middle - 0.5 * (self.start + self.end)
        ends = xp.minimum(self.start, self.end)
        least = xp.minimum(xp.minimum(ends, self.middle), 0.5 * (tip + ends))
        return least - self.error

    @property
    def highest(self) -> Array:
        """An upper bound on the cell."""
        xp = namespace(self.middle)
        tip = 2.0 * self.middle - 0.5 * (self.start + self.end)
        ends = xp.maximum(self.start, self.end)
        return xp.maximum(xp.maximum(ends, self.middle), 0.5 * (tip + ends)) + self.error

    @property
    def size(self) -> Array:
        """A bound of the absolute value on the cell."""
        return _size(self.middle, *self._bent()) + self.error

    def plus(self, other: Parabola) -> Parabola:
        """The sum."""
        return Parabola(*(one + two for one, two in zip(self, other, strict=True)))

    def minus(self, other: Parabola) -> Parabola:
        """The difference."""
        return Parabola(
            self.start - other.start,
            self.middle - other.middle,
            self.end - other.end,
            self.error + other.error,
        )

    def shifted(self, constant: float) -> Parabola:
        """The sum with a constant."""
        return Parabola(
            self.start + constant, self.middle + constant, self.end + constant, self.error
        )

    def scaled(self, factor: float) -> Parabola:
        """The product with a constant that is not negative."""
        return Parabola(*(part * factor for part in self))

    def times(self, other: Parabola) -> Parabola:
        """The product."""
        b1, c1 = self._bent()
        b2, c2 = other._bent()
        error = _product_error(b1, c1, b2, c2) + _size(self.middle, b1, c1) * other.error
        error = error + (_size(other.middle, b2, c2) + other.error) * self.error
        return Parabola(
            self.start * other.start, self.middle * other.middle, self.end * other.end, error
        )

    def squared(self) -> Parabola:
        """The square."""
        b, c = self._bent()
        error = (2.0 * _CUBIC) * abs(b * c) + _QUARTIC * (c * c)
        error = error + (2.0 * _size(self.middle, b, c) + self.error) * self.error
        return Parabola(
            self.start * self.start, self.middle * self.middle, self.end * self.end, error
        )

    def _bent(self) -> tuple[Array, Array]:
        """b and c of the parabola a + bx + cx², a being the middle."""
        return 0.5 * (self.end - self.start), 0.5 * (self.start + self.end) - self.middle


def quotients(numerators: tuple[Parabola, ...], divisor: Parabola) -> tuple[Parabola, ...]:
    """The quotients by something with positive values.

    The error is infinite (or nan) where it is not seen to be positive on the whole cell.
    """
    xp = namespace(divisor.middle)
    at_start, at_middle, at_end = 1.0 / divisor.start, 1.0 / divisor.middle, 1.0 / divisor.end
    floor = divisor.lowest
    grow = xp.where(floor > 0.0, 1.0 / floor, xp.inf)
    b2, c2 = divisor._bent()
    found = []
    for part in numerators:
        quotient = Parabola(part.start * at_start, part.middle * at_middle, part.end * at_end, 0.0)
        b1, c1 = quotient._bent()
        left = part.error + _size(quotient.middle, b1, c1) * divisor.error
        found.append(quotient._replace(error=(_product_error(b1, c1, b2, c2) + left) * grow))
    return tuple(found)


def _size(a: Array, b: Array, c: Array) -> Array:
    """A bound of |a + bx + cx²|."""
    return namespace(a).maximum(abs(a), abs(a + c)) + abs(b)


def _product_error(b1: Array, c1: Array, b2: Array, c2: Array) -> Array:
    return _CUBIC * abs(b1 * c2 + b2 * c1) + _QUARTIC * abs(c1 * c2)
