// Made by fit.py. exp(r) = 1 + r + r^2 q(r) for |r| <= ln(2)/2; of each array the constant comes first.
#pragma once

namespace jaxrnn {

template <class Real>
struct Coefficients;

template <>
struct Coefficients<float> {  // the error of exp(r) is 0.063 units of the last place of 1
  static constexpr int kDegree = 4;
  static constexpr float kTail[] = {5.00000000e-01, 1.66665778e-01, 4.16665561e-02, 8.36317334e-03, 1.39261759e-03};
};

template <>
struct Coefficients<double> {  // the error of exp(r) is 0.058 units of the last place of 1
  static constexpr int kDegree = 9;
  static constexpr double kTail[] = {5.0000000000000011e-01, 1.6666666666666669e-01, 4.1666666666624164e-02, 8.3333333333300511e-03, 1.3888888917197035e-03, 1.9841269863063321e-04, 2.4801521322116839e-05, 2.7557268466213731e-06, 2.7620075938755114e-07, 2.5100378480776706e-08};
};

}  // namespace jaxrnn
