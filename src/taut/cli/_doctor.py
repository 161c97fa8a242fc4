"""The doctor: what is installed, on what devices and in what precision this machine computes."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys

import jax
import jax.numpy as jnp

import taut
from taut import _precision

NEEDED = (
    "equinox",
    "jax",
    "jaxlib",
    "matplotlib",
    "numpy",
    "numpyro",
    "optax",
    "rich",
    "safetensors",
    "scipy",
    "threadpoolctl",
)
OPTIONAL = {
    "pandas": ("data", "data frames"),
    "pyarrow": ("data", "Parquet files"),
    "arviz-base": ("arviz", "fit.to_arviz"),
    "flowjax": ("flows", "taut.guides.Flow"),
    "statsmodels": ("demo", "the panel of the demo"),
}
_SWITCHES = ("JAX_PLATFORMS", "JAX_ENABLE_X64", "JAX_COMPILATION_CACHE_DIR", "XLA_FLAGS", "CUDA_VISIBLE_DEVICES")


def doctor() -> tuple[str, bool]:
    """Describe this installation.

    Returns:
        The text, and whether everything needed is there: every required package, a device, float64 arithmetic.

    Example:
        >>> text, healthy = doctor()
    """
    lines = [
        f"taut {taut.__version__}",
        f"python {platform.python_version()} ({sys.executable}), {platform.platform()}",
        "",
        "needed",
    ]
    healthy = True
    for package in NEEDED:
        version = _version(package)
        healthy &= version is not None
        lines.append(f"  {package:<12} {version or 'MISSING: pip install ' + package}")
    lines += ["", "optional"]
    for package, (extra, purpose) in OPTIONAL.items():
        version = _version(package) or f"not installed: pip install 'taut[{extra}]'"
        lines.append(f"  {package:<12} {version}  ({purpose})")
    devices, works = _devices()
    settings = [f"  {name}={os.environ[name]}" for name in _SWITCHES if name in os.environ]
    lines += ["", "devices", *devices, *(["", "environment", *settings] if settings else [])]
    return "\n".join(lines), healthy and works


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> tuple[list[str], bool]:
    try:
        devices = jax.devices()
        exact = _resolves_float64()
    except RuntimeError as error:  # a platform that was asked for is not there, or a driver is broken
        return [f"  NONE: {' '.join(str(error).split())}"], False
    lines = [f"  {device.platform}:{device.id}  {device.device_kind}" for device in devices]
    lines += ["", "precision"]
    lines.append(f"  fits run in {_precision.default()} unless told otherwise")
    lines.append(f"  float64 on this device: {'works' if exact else 'DOES NOT WORK: computed in fewer digits'}")
    return lines, exact


def _resolves_float64() -> bool:
    """Whether the default device tells 1 + 2^-50 from 1, which takes float64."""
    with _precision.scope("float64"):
        one = jnp.asarray(1.0)
        return float((one + 2.0**-50) - one) == 2.0**-50
