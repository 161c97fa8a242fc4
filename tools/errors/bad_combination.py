"""Two objects that are right each for itself, and wrong together."""

import taut

# wrong
svi = taut.algorithms.SVI(objective=taut.objectives.IWAE(8), gradient=taut.gradients.StickingTheLanding())

# right
svi = taut.algorithms.SVI(objective=taut.objectives.IWAE(8), gradient=taut.gradients.Pathwise())
