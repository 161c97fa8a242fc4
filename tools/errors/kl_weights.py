"""Over an epoch the prior counts once: shares of the KL term that do not sum to one temper it."""

import taut

# wrong
weights = taut.objectives.KLWeights([0.5, 0.5, 0.5])

# right
weights = taut.objectives.KLWeights([0.5, 0.25, 0.25])
