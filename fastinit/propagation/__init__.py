"""Signals through layers: `fastinit.propagate`, its theory, and `fastinit.recommend`.

Imports core, initializers and sampling (to fill networks), not verification. `activations` has the functions,
`mean_field` the recursion, `simulation` the measurement, `recommendation` the search. To add an activation, give its
function and derivative a row of `activations`, and its gain one of `initializers.gains` under that name; tests
compare the two.
"""
