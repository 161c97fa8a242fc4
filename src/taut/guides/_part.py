"""A part of a program: some of its latents, as a family sees them that does not know of the others."""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import replace

import numpy as np

from taut.problem import Problem, Program


def part_of_program(program: Program, names: Collection[str]) -> Program:
    """The program with those latents alone; its densities still need all of them."""
    latents = {name: latent for name, latent in program.latents.items() if name in names}
    return replace(program, latents=latents, digest=f"{program.digest}/{','.join(latents)}")


def part_of_problem(problem: Problem, names: Collection[str]) -> Problem:
    """The problem with those latents alone."""
    found = copy.copy(problem)
    found.program = part_of_program(problem.program, names)
    found.dim, found.layout = found.program.dim, found.program.layout
    found.hierarchical = found.program.hierarchical
    return found


def coordinates_of_part(program: Program, names: Collection[str]) -> np.ndarray:
    """Where the coordinates of those latents stand in the program's vector."""
    parts = [np.arange(program.layout[n].start, program.layout[n].stop) for n in program.latents if n in names]
    return np.concatenate(parts) if parts else np.zeros(0, int)
