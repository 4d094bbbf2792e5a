"""Fit the polynomial of exp that functions.h uses, and print its error: `python fit.py > coefficients.h`.

    exp(r) = 1 + r + r² q(r)        |r| ≤ ln(2)/2

q is the interpolant in Chebyshev's nodes, in extended precision: within a small factor of the best polynomial of its
degree. The error printed is that of exp(r), of q evaluated exactly in its rounded coefficients.
"""

import sys

import numpy as np

Wide = np.longdouble
BOUND = np.log(Wide(2)) / 2
DEGREES = {"float": 4, "double": 9}  # of q


def tail(r):
    """(exp(r) - 1 - r) / r², by its series: 30 terms are more than enough."""
    total = np.zeros_like(r)
    factorial = Wide(1)
    factorials = []
    for n in range(2, 32):
        factorial = factorial * n
        factorials.append(factorial)
    for factorial in reversed(factorials):
        total = total * r + 1 / factorial
    return total


def fit(degree):
    """Coefficients of q, the constant first."""
    nodes = BOUND * np.cos((2 * np.arange(degree + 1, dtype=Wide) + 1) * np.arccos(Wide(-1)) / (2 * degree + 2))
    divided = tail(nodes)
    for order in range(1, degree + 1):  # Newton's divided differences
        divided[order:] = (divided[order:] - divided[order - 1 : -1]) / (nodes[order:] - nodes[:-order])
    coefficients = np.zeros(degree + 1, Wide)
    for node, difference in zip(nodes[::-1], divided[::-1], strict=True):  # Horner's scheme on polynomials
        coefficients[1:] = coefficients[:-1].copy() - node * coefficients[1:]
        coefficients[0] = difference - node * coefficients[0]
    return coefficients


def error(coefficients):
    """The largest error of exp(r) over a million points."""
    r = np.linspace(-BOUND, BOUND, 1_000_001, dtype=Wide)
    return np.abs((np.polyval(coefficients[::-1].astype(Wide), r) - tail(r)) * r**2).max()


def main():
    """Print the header; the errors go into it and to stderr."""
    print("// Made by fit.py. exp(r) = 1 + r + r^2 q(r) for |r| <= ln(2)/2; of each array the constant comes first.")
    print("#pragma once\n\nnamespace jaxrnn {\n\ntemplate <class Real>\nstruct Coefficients;\n")
    for name, dtype, digits in (("float", np.float32, 9), ("double", np.float64, 17)):
        rounded = fit(DEGREES[name]).astype(dtype)
        note = f"the error of exp(r) is {float(error(rounded) / np.finfo(dtype).eps):.3f} units of the last place of 1"
        values = ", ".join(f"{value:.{digits - 1}e}" for value in rounded)
        print(f"template <>\nstruct Coefficients<{name}> {{  // {note}")
        print(f"  static constexpr int kDegree = {DEGREES[name]};")
        print(f"  static constexpr {name} kTail[] = {{{values}}};\n}};\n")
        print(f"{name}: {note}", file=sys.stderr)
    print("}  // namespace jaxrnn")


if __name__ == "__main__":
    main()
